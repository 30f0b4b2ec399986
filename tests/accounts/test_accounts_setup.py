"""The first administrator comes in through a link that works once, and only while it should.

There is no default password to test: a site without accounts and without a link admits nobody.
"""

from datetime import timedelta

import pytest

from appliance.errors import Conflict, InvalidRequest, SetupLinkInvalid, Unauthenticated


def link(site, **options):
    with site.change() as change:
        token = change.create_setup_link(**options)
        change.commit()
    return token


def use(site, token, name="root"):
    with site.change() as change:
        account = change.use_setup_link(token, name, site.password)
        change.commit()
    return account


def test_a_new_site_admits_nobody(site):
    assert not site.directory.setup_open()
    assert not site.directory.has_administrator()
    for name in ("admin", "root", "administrator", ""):
        with pytest.raises(Unauthenticated):
            site.sign_in(name, "")
    with pytest.raises(SetupLinkInvalid):
        use(site, "")


def test_the_link_makes_an_administrator_who_may_also_work(site):
    token = link(site)
    assert site.directory.setup_open()
    assert site.directory.setup_open(token)
    assert use(site, token).roles == {"admin", "user"}
    assert site.directory.has_administrator()
    assert site.sign_in("root").session.principal.roles == {"admin", "user"}


def test_the_link_works_once(site):
    token = link(site)
    use(site, token)
    assert not site.directory.setup_open(token)
    with pytest.raises(SetupLinkInvalid):
        use(site, token, "second")
    assert len(site.directory.list_accounts()) == 1


def test_the_link_expires(site):
    token = link(site)
    site.clock.time += timedelta(seconds=site.config.setup_link_s)
    assert not site.directory.setup_open(token)
    with pytest.raises(SetupLinkInvalid):
        use(site, token)


@pytest.mark.parametrize("token", ["", "x", "ä", "A" * 43, "A" * 5000])
def test_other_links_open_nothing(site, token):
    link(site)
    assert not site.directory.setup_open(token)
    with pytest.raises(SetupLinkInvalid):
        use(site, token)


def test_a_password_that_is_refused_does_not_use_the_link_up(site):
    token = link(site)
    with pytest.raises(InvalidRequest), site.change() as change:
        change.use_setup_link(token, "root", "short")
    use(site, token)


def test_a_newer_link_replaces_the_older(site):
    older, newer = link(site), link(site)
    with pytest.raises(SetupLinkInvalid):
        use(site, older)
    use(site, newer)


def test_with_an_administrator_only_the_operator_makes_a_link(site):
    site.add("root", "admin")
    with pytest.raises(Conflict):
        link(site)
    token = link(site, recover=True)
    assert use(site, token, "rescue").roles == {"admin", "user"}


def test_an_administrator_made_otherwise_closes_the_link(site):
    token = link(site)
    site.add("root", "admin")
    assert not site.directory.setup_open()
    with pytest.raises(SetupLinkInvalid):
        use(site, token)


def test_an_administrator_who_comes_back_closes_the_link(site):
    site.add("ana", "admin")
    site.add("bob", "admin")
    with site.change() as change:
        change.disable_account("bob")
        change.commit()
    token = link(site, recover=True)
    with site.change() as change:
        change.enable_account("bob")
        change.commit()
    with pytest.raises(SetupLinkInvalid):
        use(site, token)


def test_the_database_does_not_hold_the_link(site):
    token = link(site)
    site.engine.dispose()
    assert token.encode() not in b"".join(path.read_bytes() for path in site.home.database.parent.iterdir())
