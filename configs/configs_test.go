package configs

import "testing"

func TestDesign(t *testing.T) {
	j, err := Load("examples/nightly.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(j.Digest())
}
