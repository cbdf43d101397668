#!/usr/bin/env bash
# Installs what the interop tests need, once: Python readers and writers in a
# virtual environment, Spark's and Nessie's jars, the S3 server and PostgreSQL.
# Everything but Debian's packages goes below .cache/.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=$PWD/.cache
mkdir -p "$cache/bin" "$cache/interop/jars"

need() { # need COMMAND PACKAGE: Debian's package where the command is missing
	command -v "$1" >/dev/null 2>&1 && return
	[ -n "${updated:-}" ] || { apt-get update -q >/dev/null; updated=1; }
	DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$2" >/dev/null
}
need python3 python3
need java openjdk-17-jre-headless
need mvn maven
need npm npm || true
need chromium chromium
need chromedriver chromium-driver
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need initdb postgresql

stamp=$cache/interop/requirements.$(sha256sum interop/requirements.txt | cut -c1-16)
if [ ! -e "$stamp" ]; then
	python3 -m venv "$cache/interop/venv" || { need python3-venv python3-venv; python3 -m venv "$cache/interop/venv"; }
	"$cache/interop/venv/bin/pip" install -q --disable-pip-version-check -r interop/requirements.txt
	touch "$stamp"
fi

jar() { # jar GROUP:ARTIFACT:VERSION[:jar:CLASSIFIER]
	IFS=: read -r _ artifact version _ classifier <<<"$1"
	[ -e "$cache/interop/jars/$artifact-$version${classifier:+-$classifier}.jar" ] && return
	# Maven Central answers slowly now and then.
	for try in 1 2 3; do
		mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy -Dartifact="$1" -DoutputDirectory="$cache/interop/jars" && return
		sleep $((try * 5))
	done
	echo "interop: $1 could not be fetched" >&2
	return 1
}
jar org.apache.iceberg:iceberg-spark-runtime-3.5_2.12:1.12.0
jar org.apache.iceberg:iceberg-aws-bundle:1.12.0
jar org.postgresql:postgresql:42.7.4
jar org.xerial:sqlite-jdbc:3.47.0.0
jar org.projectnessie.nessie:nessie-quarkus:0.99.0:jar:runner

# The S3 server is a program of its own: its modules are no part of go.mod.
[ -x "$cache/bin/versitygw" ] || GOFLAGS= GOBIN=$cache/bin go install github.com/versity/versitygw/cmd/versitygw@v1.8.0

# So are fake-gcs-server and MinIO. MinIO is a second opinion on S3: where it
# does not build its tests are skipped.
[ -x "$cache/bin/fake-gcs-server" ] || GOFLAGS= GOBIN=$cache/bin go install github.com/fsouza/fake-gcs-server@v1.52.2
[ -x "$cache/bin/minio" ] || GOFLAGS= GOBIN=$cache/bin timeout 1200 go install github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c ||
	echo "interop: MinIO could not be built; its tests will be skipped" >&2

# Azurite: the newest version that runs on Node 20.
azurite=3.35.0
[ -d "$cache/interop/azurite/node_modules/azurite" ] ||
	npm install --silent --no-audit --no-fund --prefix "$cache/interop/azurite" "azurite@$azurite" ||
	echo "interop: Azurite could not be installed; its tests will be skipped" >&2
