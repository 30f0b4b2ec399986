"""Certificates of a site: a client that trusts the site's authority accepts its server and nobody else in its name.

Handshakes are real, in memory, by OpenSSL through Python's `ssl`; so name constraints are judged by what clients use.
"""

import ssl
from datetime import UTC, datetime, timedelta

import pytest

from appliance.crypto.certificates import belong_together, make_authority, make_server, read_certificate

NOW = datetime.now(UTC)
NAMES = ["ward3.clinic.example", "10.20.0.5"]


@pytest.fixture(scope="module")
def authority():
    return make_authority("Ward 3", NAMES, now=NOW, days=3650)


def shake_hands(pair, trusted: str, host: str, folder) -> None:
    """One handshake; raises what the client raises."""
    (folder / "server.pem").write_text(pair.certificate)
    (folder / "server.key").write_text(pair.key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem", folder / "server.key")
    client = ssl.create_default_context(cadata=trusted)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    done = set()
    for _ in range(20):
        for end in ends:
            try:
                end.do_handshake()
                done.add(id(end))
            except ssl.SSLWantReadError:
                continue
        if len(done) == 2:
            return
    raise AssertionError("the handshake did not end")


@pytest.mark.parametrize("host", NAMES)
def test_the_server_is_believed_under_each_of_its_names(authority, tmp_path, host):
    shake_hands(make_server(authority, NAMES, now=NOW, days=397), authority.certificate, host, tmp_path)


@pytest.mark.parametrize("name", ["bank.example", "clinic.example", "10.20.0.6", "192.0.2.9"])
def test_a_stolen_authority_vouches_for_nobody_else(authority, tmp_path, name):
    forged = make_server(authority, [name], now=NOW, days=397)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        shake_hands(forged, authority.certificate, name, tmp_path)


@pytest.mark.parametrize(("names", "other"), [(["ward3.clinic.example"], "10.0.0.1"), (["10.20.0.5"], "bank.example")])
def test_a_kind_of_name_that_was_not_asked_for_is_not_free(tmp_path, names, other):
    authority = make_authority("Ward 3", names, now=NOW, days=10)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        shake_hands(make_server(authority, [other], now=NOW, days=10), authority.certificate, other, tmp_path)


def test_another_authority_is_not_believed(authority, tmp_path):
    theirs = make_authority("Ward 3", NAMES, now=NOW, days=3650)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(make_server(theirs, NAMES, now=NOW, days=397), authority.certificate, NAMES[0], tmp_path)


def test_an_ended_certificate_is_not_believed(authority, tmp_path):
    old = make_server(authority, NAMES, now=NOW - timedelta(days=398), days=397)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(old, authority.certificate, NAMES[0], tmp_path)


def test_facts_and_the_key_that_belongs_to_it(authority):
    server = make_server(authority, NAMES, now=NOW, days=397)
    facts = read_certificate(server.certificate)
    assert facts.names == tuple(NAMES) and len(facts.fingerprint.split(":")) == 32
    assert abs((facts.not_after - NOW).days - 397) <= 1
    assert belong_together(server.certificate, server.key) and not belong_together(server.certificate, authority.key)
    assert "PRIVATE" not in repr(server)
    for wrong in ("", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(ValueError):
            read_certificate(wrong)
