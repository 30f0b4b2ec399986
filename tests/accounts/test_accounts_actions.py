"""Who may do what: the whole matrix, spelled out a second time and compared cell by cell.

The matrix below is what the product promises; the code holds the same as sets. A new action or role fails here until
somebody has decided every cell of it.
"""

import itertools

import pytest

from appliance.accounts.actions import (
    ROLE_ACTIONS,
    ROLES,
    SCOPES,
    Action,
    actions_of,
    authorize,
    check_roles,
    local_operator,
    person_of,
)
from appliance.errors import InvalidRequest, PermissionDenied
from appliance.types import Principal

MATRIX = """
                        user  auditor  admin  api_key
    specialist.run      yes   no       no     yes
    specialist.list     yes   yes      yes    yes
    specialist.install  no    no       yes    yes
    specialist.approve  no    no       yes    no
    specialist.promote  no    no       yes    no
    specialist.teach    yes   no       yes    yes
    specialist.evaluate yes   no       yes    yes
    conversation.tune   no    no       yes    yes
    audit.read_own      yes   no       no     yes
    audit.read_all      no    yes      no     yes
    audit.read_content  no    yes      no     yes
    audit.verify        yes   yes      yes    yes
    audit.checkpoint    yes   yes      yes    yes
    audit.export        no    yes      no     yes
    audit.hold          no    yes      yes    no
    audit.retention     no    no       yes    yes
    audit.erase         no    no       yes    no
    keys.manage         no    no       yes    no
    backups.manage      no    no       yes    no
    api_keys.own        yes   no       no     no
    api_keys.manage     no    no       yes    no
    accounts.manage     no    no       yes    no
    specialists.manage  no    no       yes    yes
    models.manage       no    no       yes    yes
    guard.manage        no    no       yes    no
    system.status       no    no       yes    yes
"""


def cells():
    header, *rows = [line.split() for line in MATRIX.strip().splitlines()]
    for action, *answers in rows:
        yield from ((column, action, answer == "yes") for column, answer in zip(header, answers, strict=True))


def person(*roles, scopes=None):
    return Principal("user:1", "ana", "user", frozenset(roles), scopes)


def program(*roles, scopes):
    return Principal("api-key:1", "ana/letters", "api_key", frozenset(roles), scopes)


def may(principal, action):
    try:
        authorize(principal, Action(action))
    except PermissionDenied:
        return False
    return True


def test_the_matrix_names_every_action_and_every_role():
    listed = list(cells())
    assert {action for _, action, _ in listed} == {action.value for action in Action}
    assert {column for column, _, _ in listed} == ROLES | {"api_key"} == set(ROLE_ACTIONS) | {"api_key"}


@pytest.mark.parametrize(("column", "action", "allowed"), list(cells()))
def test_every_cell_of_the_matrix(column, action, allowed):
    if column == "api_key":
        assert may(program(*ROLES, scopes=frozenset({action})), action) is allowed
    else:
        assert may(person(column), action) is allowed


@pytest.mark.parametrize("roles", [c for n in range(4) for c in itertools.combinations(sorted(ROLES), n)])
def test_several_roles_allow_the_union_and_no_role_allows_nothing(roles):
    assert actions_of(person(*roles)) == {a for role in roles for a in ROLE_ACTIONS[role]}


def test_a_key_does_what_its_scopes_name_and_its_owner_still_may():
    key = program("user", scopes=frozenset({"specialist.run", "audit.export"}))
    assert actions_of(key) == {Action.SPECIALIST_RUN}


@pytest.mark.parametrize("scopes", [None, frozenset(), frozenset({"*"}), frozenset({"specialist"})])
def test_a_key_without_known_scopes_may_do_nothing(scopes):
    assert actions_of(program("user", "admin", scopes=scopes)) == frozenset()


def test_no_key_can_make_accounts_or_keys_nor_decide_what_is_destroyed():
    assert {a.value for a in Action} - {a.value for a in SCOPES} == {
        "accounts.manage",
        "api_keys.manage",
        "api_keys.own",
        "audit.erase",
        "audit.hold",
        "backups.manage",
        "guard.manage",
        "keys.manage",
        "specialist.approve",
        "specialist.promote",
    }
    everything = program(*ROLES, scopes=frozenset(a.value for a in Action))
    assert actions_of(everything) == SCOPES


def test_a_person_with_scopes_is_narrowed_by_them():
    assert actions_of(person("user", scopes=frozenset({"specialist.list"}))) == {Action.SPECIALIST_LIST}


def test_a_refusal_names_the_permission_and_says_whom_to_ask():
    with pytest.raises(PermissionDenied, match=r"audit\.export") as caught:
        authorize(person("user"), Action.AUDIT_EXPORT)
    assert "administrator" in caught.value.hint


def test_an_auditor_has_no_other_role():
    assert check_roles(["auditor"]) == {"auditor"}
    assert check_roles(["admin", "user", "user"]) == {"admin", "user"}
    for roles in (["auditor", "user"], ["auditor", "admin"], ["auditor", "admin", "user"]):
        with pytest.raises(InvalidRequest, match="no other role"):
            check_roles(roles)


@pytest.mark.parametrize("roles", [[], ["root"], ["user", ""], ["Admin"]])
def test_unknown_or_missing_roles_are_refused(roles):
    with pytest.raises(InvalidRequest):
        check_roles(roles)


def test_the_operator_of_the_machine_is_recorded_by_user_number_and_may_do_everything():
    operator = local_operator(1000)
    assert operator.id == "local:uid-1000"
    assert actions_of(operator) == frozenset(Action)


def test_a_key_is_the_person_of_its_owner_and_the_machine_is_one_person():
    ana, key = person("user"), program("user", scopes=frozenset())
    assert person_of(ana) == person_of(key) == "account:ana"
    assert person_of(Principal("user:9", "ANA", "user", frozenset())) == "account:ana"
    assert person_of(Principal("user:2", "local", "user", frozenset())) != person_of(local_operator(0))
    assert person_of(local_operator(0)) == person_of(local_operator(1000)) == "local"
