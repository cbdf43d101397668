"""Reads a manifest as an in-toto attestation in a DSSE envelope, with other people's code.

  evidence.py ENVELOPE PUBLIC_KEY_FILE…

securesystemslib verifies the envelope, in-toto-attestation reads the statement.
A key file holds an Ed25519 public key as PEM. Prints the statement's subjects
and predicate type as JSON, or says on stderr what is wrong and exits with 1.
"""

import json
import sys

from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey


def main(path: str, keys: list[str]) -> None:
    with open(path, "rb") as f:
        raw = json.load(f)
    envelope = Envelope.from_dict(raw)
    if envelope.payload_type != "application/vnd.in-toto+json":
        raise SystemExit(f"payload type {envelope.payload_type}")
    ids = list(envelope.signatures)
    public = []
    for i, name in enumerate(keys):
        with open(name, "rb") as f:
            key = SSlibKey.from_crypto(load_pem_public_key(f.read()))
        # An envelope names the key that signed; the signature decides.
        key.keyid = ids[min(i, len(ids) - 1)]
        public.append(key)
    try:
        envelope.verify(public, len(public))
    except VerificationError as e:
        raise SystemExit(f"signature: {e}")
    statement = Statement.copy_from_pb(json_format.Parse(envelope.payload, statement_pb2.Statement()))
    statement.validate()
    print(json.dumps({
        "predicate_type": statement.pb.predicate_type,
        "subjects": {s.name: dict(s.digest) for s in statement.pb.subject},
        "outcome": json_format.MessageToDict(statement.pb.predicate)["outcome"]["result"],
    }))


main(sys.argv[1], sys.argv[2:])
