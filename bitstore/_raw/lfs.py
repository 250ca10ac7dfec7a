"""Objects of a Git LFS server, by its batch API: https://github.com/git-lfs/git-lfs/tree/main/docs/api."""

from __future__ import annotations

import operator
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast
from urllib.parse import parse_qsl, urlsplit

from bitstore._raw.asked import Asked
from bitstore._raw.http import HTTPOptions, HTTPRaw, State, is_web_url, origin, percent_encoded
from bitstore._raw.lfs_batch import HEADERS, LASTING, Group, Link, links, none_held, question, sent
from bitstore._raw.options import Option
from bitstore._raw.problems import Problem, without
from bitstore.steps import Profile, Response, Sleep, Steps, Wait, Write

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["LFSRaw"]

_ANSWER_BYTES = 16 * 1024 * 1024  # of one answer of the batch API at most
_AT_ONCE = 4  # requests to the batch API under way: further lookups gather until one of them is answered
_KNOWN_LINKS = 1024  # links kept, for the parts of large objects
_SECRET = 8  # characters; shorter values of links are no secrets


class LFSOptions(HTTPOptions, total=False):
    """The options of `LFSRaw`."""

    sizes: Mapping[str, int] | None
    batch_size: int


def _sizes(name: str, value: Any) -> Mapping[str, int] | None:
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{name} is a mapping from digests to numbers of bytes, not {type(value).__name__}")
    return value


def _count(name: str, value: Any) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is a number of objects of at least 1, not {value!r}")
    return value


class _Place(NamedTuple):
    """One object of one server."""

    base: str  # URL of the LFS server, with a slash at its end
    oid: str


def _place(url: str) -> _Place:
    base, _, oid = url.rpartition("/")
    return _Place(f"{base}/", oid.lower())


class _LFSState(State):
    """What one process has: groups of lookups that gather and that are asked about, and links that are still good."""

    __slots__ = ("_gathering", "_known", "_lock", "_most", "_under_way")

    def __init__(self, headers: dict[str, str], own: Profile, stranger: Profile, most: int) -> None:
        super().__init__(headers, own, stranger)
        self._lock = threading.Lock()  # never held across a yield
        self._most = most  # objects in one request; smaller after a server has refused so many
        self._gathering: dict[str, Group] = {}  # by the URL of the server
        self._under_way: list[Group] = []
        self._known: OrderedDict[_Place, Link] = OrderedDict()

    def join(self, place: _Place, size: int, *, alone: bool) -> tuple[Group, bool]:
        """The group that asks about the object, and whether the caller is the one that sends its request."""
        with self._lock:
            group = None if alone else self._gathering.get(place.base)
            leads = group is None or len(group.sizes) >= self._most
            if group is None or leads:
                group = Group(place.base)
                if not alone:
                    self._gathering[place.base] = group
            group.sizes[place.oid] = size
            return group, leads

    def begin(self, group: Group) -> Group | None:
        """Close the group and count its request; else a group whose answer has to come first."""
        with self._lock:
            if len(self._under_way) >= _AT_ONCE:
                return self._under_way[0]
            self._close(group)
            self._under_way.append(group)
            return None

    def end(self, group: Group) -> None:
        """Let the lookups of the group go on, whatever came of its request."""
        with self._lock:
            self._close(group)
            if group in self._under_way:
                self._under_way.remove(group)
            if isinstance(group.answers, dict):
                for oid, link in group.answers.items():
                    if isinstance(link, Link):
                        self._known[_Place(group.base, oid)] = link
                while len(self._known) > _KNOWN_LINKS:
                    self._known.popitem(last=False)
        group.land()

    def _close(self, group: Group) -> None:
        if self._gathering.get(group.base) is group:
            del self._gathering[group.base]

    def halve(self, count: int) -> None:
        """Ask about fewer objects at once from now on: a server has refused `count`."""
        with self._lock:
            self._most = min(self._most, max(1, count // 2))

    def known(self, place: _Place) -> Link | None:
        """A link that an earlier answer has named and that is still good."""
        link = self._known.get(place)
        return None if link is None or link.over else link


class LFSRaw(HTTPRaw):
    """Objects of Git LFS servers, read by their batch API: many objects are asked about in one request.

    Its URLs are `<URL of the LFS server>/<sha256>`. The URL of the server is what `git lfs env` shows as `Endpoint`,
    such as `https://host/repository.git/info/lfs`. So a store is
    `Sha256Store(LFSRaw(), "https://host/repository.git/info/lfs/", verify=True)`.

    An object that the server does not hold (404) or no longer holds (410) is missing. Every other error is a failure,
    among them 422: many servers refuse an object whose size is not the one that was sent (see `sizes`).

    Parameters
    ----------
    sizes
        Bytes of each object by its digest in lower case, as pointer files and `git lfs ls-files` name them. The
        protocol wants a size, and 0 is sent where none is known. The mapping pickles with the store.
    batch_size
        Objects in one request at most. A server that refuses so many (413) is asked about fewer.
    headers
        Sent to the LFS server, such as `{"Authorization": "Basic ..."}`. A link to another host gets none of them.
    follow_redirects, forbidden_is_missing, missing_bucket, max_blob_size, range_threshold, connect_timeout,
    stall_timeout, total_timeout, ca_bundle, proxy, retry, limit, price
        As for `HTTPRaw`.

    Notes
    -----
    It only reads: `put` raises `NotImplementedError`.
    """

    URI_HINT = "https://host/repository.git/info/lfs/<sha256>"
    _URLS = re.compile(
        r"(https?)://((?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?)"
        r"((?:/[^\x00-\x20\x7f#?\ud800-\udfff]*)?/[0-9a-f]{64})",
        re.IGNORECASE,
    )

    _hidden = HTTPRaw._hidden | {"sizes"}

    sizes = Option["Mapping[str, int] | None"](None, _sizes)
    batch_size = Option[int](100, _count)

    def __init__(self, **options: Unpack[LFSOptions]) -> None:
        super().__init__(**cast("HTTPOptions", options))

    # ------------------------------------------------------------------ lookups as steps

    def put_steps(self, uri: Any, data: bytes, write: Write) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__} only reads: Git writes to a Git LFS server")

    def delete_steps(self, uri: Any) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__} only reads: the Git LFS protocol deletes nothing")

    def _ask(self, asked: Asked) -> Steps[Response | Problem]:
        place = _place(asked.place)
        state = self._lfs_state()
        link = None if asked.method == "HEAD" else state.known(place)
        while True:
            found = link or (yield from self._link(state, place))
            if isinstance(found, Problem):
                return found
            if asked.method == "HEAD":  # a link is for GET alone, and the server has just said that it has the object
                return Response(200, b"", {} if found.size is None else {"content-length": str(found.size)}, 0.0)
            answer = yield from self._follow(asked, place, found)
            if isinstance(answer, Response) or not 400 <= answer.status < 500:
                return answer
            if link is None:
                return answer
            link = None  # it was no longer good, which says nothing of the object: there is another

    def _follow(self, asked: Asked, place: _Place, link: Link) -> Steps[Response | Problem]:
        """Ask where the link points to."""
        match = is_web_url(link.href.partition("#")[0])
        if match is None:
            return Problem(200, message="the link that the server names is no http(s) URL, or one with a password")
        if place.base.lower().startswith("https:") and link.href.lower().startswith("http:"):
            return Problem(200, message="the link that the server names leads from https to http, and is not followed")
        private = dict(link.headers)
        if origin(link.href) == origin(place.base) and not link.authenticated:
            given = {name.lower() for name in private}
            private.update({name: value for name, value in self.headers.items() if name.lower() not in given})
        lines = tuple(f"{name}: {value}" for name, value in private.items())
        answer = yield from super()._ask(asked._replace(place=percent_encoded(match), private=lines))
        if isinstance(answer, Response):
            return answer
        values = [*private.values(), *(value for _, value in parse_qsl(urlsplit(link.href).query))]
        secrets = [word for value in values for word in (value, *value.split()) if len(word) >= _SECRET]
        answer.message = without(answer.message, secrets)
        if answer.no_bucket:
            answer = replace(answer, no_bucket=False, unservable=True)
        if answer.missing and not answer.code:
            # The server has the object, as it says, and its store may have refused the link: a bucket would say more.
            answer = replace(
                answer, missing=False, message=f"the server has it, but its link answers: {answer.message}"
            )
        return answer

    def _link(self, state: _LFSState, place: _Place) -> Steps[Link | Problem]:
        """What the server says about one object; lookups of others share its request."""
        size = self._size(place.oid)
        alone = False
        while True:
            group, leads = state.join(place, size, alone=alone)
            if leads:
                yield from self._lead(state, group)
            else:
                yield Wait(group)
            answers = group.answers
            if answers is not None:
                found = answers if isinstance(answers, Problem) else answers[place.oid]
                if isinstance(found, Problem):  # a server may repeat what it was sent
                    return replace(found, message=without(found.message, self._secrets()))
                return found
            alone = group.alone  # else the lookup that sent the request was given up, or they were too many

    def _lead(self, state: _LFSState, group: Group) -> Steps[None]:
        try:
            yield Sleep(0.0)  # lookups that begin in the same moment join
            while (other := state.begin(group)) is not None:
                yield Wait(other)
            group.answers = yield from self._post(state, group)
        finally:
            state.end(group)

    def _post(self, state: _LFSState, group: Group) -> Steps[Mapping[str, Link | Problem] | Problem | None]:
        """The answer of the server. None: each object is to be asked about again, in smaller groups."""
        body = question(group.sizes)
        asked = Asked(f"{group.base}objects/batch", "POST", body, headers=HEADERS, limit=_ANSWER_BYTES)
        answer = yield from super()._ask(asked)
        if isinstance(answer, Response):
            return links(answer.body, group.sizes)
        if none_held(answer):
            return {oid: replace(answer, no_bucket=False, missing=True) for oid in group.sizes}
        if answer.status in (413, 422) and len(group.sizes) > 1:
            if answer.status == 413:
                state.halve(len(group.sizes))
            group.alone = answer.status == 422  # one of them has the wrong size, and spoils the others
            return None
        if answer.too_large:
            return Problem(200, message=f"an answer of more than {_ANSWER_BYTES} bytes is none of the batch API")
        if answer.status == 422:
            answer.message += sent(next(iter(group.sizes.values())))
        lasting = answer.status in LASTING
        return replace(answer, missing=False, forbidden=False, no_bucket=answer.status == 404, unservable=lasting)

    def _size(self, oid: str) -> int:
        size = 0 if self.sizes is None else self.sizes.get(oid, 0)
        try:
            number = operator.index(size)
        except TypeError:
            number = -1
        if number < 0:
            raise ValueError(f"sizes: the size of {oid} is a number of bytes, not {size!r}")
        return number

    # ------------------------------------------------------------------ state

    def _lfs_state(self) -> _LFSState:
        return cast("_LFSState", self._state())

    def _new_state(self) -> _LFSState:
        state = super()._new_state()
        return _LFSState(state.headers, state.own, state.stranger, self.batch_size)

    def _no_container(self, uri: str, text: str) -> str:
        base = uri.rpartition("/")[0]
        return (
            f"there is no Git LFS server at {base}, or none that these credentials may see ({text}); "
            "if its objects are to count as missing: missing_bucket='missing'"
        )
