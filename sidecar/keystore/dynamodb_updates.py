"""What is written to a keystore in DynamoDB, as parameters of its operations. Decides no step and makes no call.

Each condition holds in one case alone, so that a write which was made for what is no longer stored writes nothing.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sidecar.keystore import copies as further
from sidecar.keystore import dynamodb_items as items
from sidecar.keystore.port import DataKeyRecord, KeyringRecord, KeyState, Usage, WrappedCopy
from sidecar.keystore.rows import MOST, copies_to_row

_ABSENT: Final = "attribute_not_exists(pk)"


def insertion(table: str, record: DataKeyRecord) -> list[dict[str, Any]]:
    """The transaction that stores a new data key, its pointer and its keyring's name; raises ``ValueError``.

    Every data key puts its keyring's name into the list, not the first alone: so the list is right whatever a process
    knows of the others.
    """
    new = (items.data_key_item(record), items.pointer_item(record))
    listed = _update(items.keyring(record.keyring), {"has_data_keys": True})
    return [
        *({"Put": {"TableName": table, "Item": item, "ConditionExpression": _ABSENT}} for item in new),
        {"Update": {"TableName": table, **listed}},
    ]


def state_update(record: DataKeyRecord, state: KeyState, at: datetime) -> dict[str, Any]:
    """The update to another state, where the state is still the record's.

    What it writes does not hang on the rest of the record: copies that came after it was read are erased as well.
    """
    changes: dict[str, Any] = {"state": str(state), "state_changed_at": at}
    if state is KeyState.DESTROYED:
        changes |= {"wrapped_key": b"", "further_copies": further.NONE}
    return _update(items.key_of(record), changes, "#state = :was", given={"was": str(record.state)})


def copies_update(
    record: DataKeyRecord, expected: Sequence[WrappedCopy], copies: Sequence[WrappedCopy]
) -> dict[str, Any]:
    """The update to other wrapped copies, where those expected are still stored; raises ``ValueError``.

    A destroyed data key's wrapped key is empty, which none is ever expected to be: it is not given one again.
    """
    becomes = copies_to_row(copies)
    condition = " AND ".join(f"#{column} = :was_{column}" for column in becomes)
    given = {f"was_{column}": value for column, value in copies_to_row(expected).items()}
    return _update(items.key_of(record), becomes, condition, given=given)


def keyring_update(record: KeyringRecord, *, mark: str, replace: bool) -> dict[str, Any]:
    """The update that stores a keyring, over another where that is to be replaced; raises ``ValueError``.

    ``mark`` is kept as ``written_by``, so that its writer knows it again.
    """
    columns = {**items.keyring_columns(record), "written_by": mark}
    condition = None if replace else "attribute_not_exists(#created_at)"
    return _update(items.keyring(record.name), columns, condition, keep=("created_at",))


def usage_update(record: DataKeyRecord, used: Usage) -> dict[str, Any] | None:
    """The update that adds to the counts of a data key, given what is stored; None where it would change nothing.

    What is stored may change before it arrives, so its condition says which case it was made for. Each of the four
    cases (two counts, two points in time) can turn once and never back: counts only rise, ``first_used_at`` only goes
    back and ``last_used_at`` only on. So an update made anew after each refusal is refused four times at most.
    """
    changes: dict[str, Any] = {}
    add: dict[str, int] = {}
    given: dict[str, Any] = {}
    conditions = ["attribute_exists(pk)"]
    for column in ("values_encrypted", "values_decrypted"):
        count = getattr(used, column)
        if getattr(record, column) > MOST - count:
            changes[column] = MOST
        elif count:
            add[column], given[f"room_{column}"] = count, MOST - count
            conditions.append(f"#{column} <= :room_{column}")
    for column, at, beyond, within in (
        ("first_used_at", used.first_at, ">", "<="),
        ("last_used_at", used.last_at, "<", ">="),
    ):
        stored = getattr(record, column)
        if stored is None or (at < stored if beyond == ">" else at > stored):
            changes[column] = at
            conditions.append(f"(attribute_not_exists(#{column}) OR #{column} {beyond} :{column})")
        else:
            given[column] = at
            conditions.append(f"#{column} {within} :{column}")
    if not changes and not add:
        return None
    return _update(items.key_of(record), changes, " AND ".join(conditions), add=add, given=given)


def _update(
    key: items.Item,
    changes: Mapping[str, Any],
    condition: str | None = None,
    *,
    keep: Sequence[str] = (),
    add: Mapping[str, int] | None = None,
    given: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The parameters of an update: ``changes`` are set (None: removed), those of ``keep`` only where there is none yet.

    ``condition`` names columns as ``#column`` and the values of ``given`` as ``:name``.
    """
    sets = [
        f"#{column} = if_not_exists(#{column}, :{column})" if column in keep else f"#{column} = :{column}"
        for column, value in changes.items()
        if value is not None
    ]
    removes = [f"#{column}" for column, value in changes.items() if value is None]
    adds = [f"#{column} :{column}" for column in add or ()]
    clauses = (("SET", sets), ("REMOVE", removes), ("ADD", adds))
    expression = " ".join(f"{verb} {', '.join(parts)}" for verb, parts in clauses if parts)
    names = re.findall(r"#(\w+)", f"{expression} {condition or ''}")
    return {
        "Key": key,
        "UpdateExpression": expression,
        **({} if condition is None else {"ConditionExpression": condition}),
        "ExpressionAttributeNames": {f"#{name}": name for name in names},
        "ExpressionAttributeValues": {
            f":{name}": value for name, value in items.attributes({**changes, **(add or {}), **(given or {})}).items()
        },
    }
