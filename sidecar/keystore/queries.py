"""The statements of an SQL keystore, the same for every database, in SQLAlchemy's portable core. Runs none of them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Select,
    Update,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    select,
    tuple_,
    union,
    update,
)

from sidecar.keystore import copies as further
from sidecar.keystore.port import KeyState, WrappedCopy
from sidecar.keystore.rows import MOST, copies_to_row
from sidecar.keystore.schema import DATA_KEYS, KEYRINGS

_COLUMNS: Final = DATA_KEYS.c


def by_ids(key_ids: Sequence[str]) -> Select[Any]:
    """The data keys of these ids."""
    return select(DATA_KEYS).where(_COLUMNS.key_id.in_(key_ids))


def primary(keyring: str) -> Select[Any]:
    """The enabled data key of the highest generation.

    The index on (keyring, generation) is walked from its end, and its first step nearly always is the answer: the
    newest enabled data key stays enabled (see ``set_state``), so only what was inserted as disabled lies beyond it.
    """
    return (
        select(DATA_KEYS)
        .where(_COLUMNS.keyring == keyring, _COLUMNS.state == str(KeyState.ENABLED))
        .order_by(_COLUMNS.generation.desc())
        .limit(1)
    )


def newest_generation(keyring: str) -> Select[Any]:
    """The highest generation, NULL where there is none: the end of the same index."""
    return select(func.max(_COLUMNS.generation).label("newest")).where(_COLUMNS.keyring == keyring)


def page_of_keys(keyring: str | None, after: tuple[str, int] | None, limit: int) -> Select[Any]:
    """A page of data keys in the order of the index on (keyring, generation)."""
    query = select(DATA_KEYS).order_by(_COLUMNS.keyring, _COLUMNS.generation).limit(limit)
    if keyring is not None:
        query = query.where(_COLUMNS.keyring == keyring)
    if after is not None and after[0] == keyring:
        # Beside the keyring's name a pair would be no place in SQLite's index: the keyring would be walked to the page.
        query = query.where(_COLUMNS.generation > after[1])
    elif after is not None:
        # Compared as one pair, the index finds the place; with AND and OR it would be walked from its beginning.
        query = query.where(tuple_(_COLUMNS.keyring, _COLUMNS.generation) > after)
    return query


def page_of_keyrings(after: str, limit: int) -> Select[Any]:
    """A page of the names of all keyrings that have data keys or a row of their own.

    The names that have data keys are found by leaping through the index from each name to the next higher one, whatever
    the generations: as many look-ups as names, however many data keys there are. The page is made of the first
    ``limit`` of either kind, which is enough: what is among the first of both is among the first of its own kind.
    """
    leaps = select(
        func.min(_COLUMNS.keyring).label("name"),
        literal(1).label("place"),
    ).where(_COLUMNS.keyring > after)
    found = leaps.cte("found", recursive=True)
    next_name = select(func.min(_COLUMNS.keyring)).where(_COLUMNS.keyring > found.c.name).scalar_subquery()
    # Counted, so that it ends with the page also where a database computes all of it before it takes the first rows.
    found = found.union_all(
        select(next_name, found.c.place + 1).where(found.c.name.is_not(None), found.c.place < limit)
    )
    created = select(KEYRINGS.c.name).where(KEYRINGS.c.name > after).order_by(KEYRINGS.c.name).limit(limit).subquery()
    names = union(select(found.c.name).where(found.c.name.is_not(None)), select(created.c.name)).subquery()
    return select(names.c.name).order_by(names.c.name).limit(limit)


def set_state(key_id: str, state: KeyState, at: datetime) -> Update:
    """Change the state where it may go there, as one statement whose rows are changed, or are not.

    A keyring's highest enabled generation never falls, and so it always has a primary once it had one. Suppose that a
    commit were the first to make it fall: it disables the data key X which is the highest. Its statement saw an
    enabled data key Y above X, perhaps of an earlier moment, since READ COMMITTED reads other rows as they were when
    the statement began. But at that moment the highest was Y or above, and has not fallen since, so X is not the
    highest. Looking at an older moment is therefore harmless, and neither locks on other rows nor a stricter isolation
    are needed. The changed row itself is looked at again by the database after any wait for its lock.
    """
    newer = DATA_KEYS.alias("newer")
    has_newer = exists().where(
        newer.c.keyring == _COLUMNS.keyring,
        newer.c.state == str(KeyState.ENABLED),
        newer.c.generation > _COLUMNS.generation,
    )
    came_from = {
        KeyState.ENABLED: _COLUMNS.state == str(KeyState.DISABLED),
        KeyState.DISABLED: and_(_COLUMNS.state == str(KeyState.ENABLED), has_newer),
        KeyState.DESTROYED: _COLUMNS.state == str(KeyState.DISABLED),
    }
    changes: dict[str, Any] = {"state": str(state), "state_changed_at": at}
    if state is KeyState.DESTROYED:
        changes |= {"wrapped_key": b"", "further_copies": further.NONE}
    return update(DATA_KEYS).where(_COLUMNS.key_id == key_id, came_from[state]).values(changes)


def replace_copies(key_id: str, expected: Sequence[WrappedCopy], copies: Sequence[WrappedCopy]) -> Update:
    """Replace the wrapped copies where they are still the expected ones; raises ``ValueError`` for what cannot be."""
    stored = [_COLUMNS[name] == value for name, value in copies_to_row(expected).items()]
    # A destroyed data key has an empty wrapped key, which is never expected.
    return update(DATA_KEYS).where(_COLUMNS.key_id == key_id, *stored).values(copies_to_row(copies))


def add_usage() -> Update:
    """Add to one data key's counts; parameters: ``id``, ``encrypted``, ``decrypted``, ``first`` and ``last``."""
    first, last = (bindparam(name, type_=_COLUMNS.first_used_at.type) for name in ("first", "last"))
    earlier = case(
        (_COLUMNS.first_used_at.is_(None), first), (_COLUMNS.first_used_at > first, first), else_=_COLUMNS.first_used_at
    )
    later = case(
        (_COLUMNS.last_used_at.is_(None), last), (_COLUMNS.last_used_at < last, last), else_=_COLUMNS.last_used_at
    )
    return (
        update(DATA_KEYS)
        .where(_COLUMNS.key_id == bindparam("id"))
        .values(
            values_encrypted=_added(_COLUMNS.values_encrypted, "encrypted"),
            values_decrypted=_added(_COLUMNS.values_decrypted, "decrypted"),
            first_used_at=earlier,
            last_used_at=later,
        )
    )


def _added(count: ColumnElement[int], name: str) -> ColumnElement[int]:
    """A count and what is added, never past the highest: SQLite would make a rounded number of it."""
    more = bindparam(name, type_=count.type)
    return case((count > literal(MOST, count.type) - more, literal(MOST, count.type)), else_=count + more)
