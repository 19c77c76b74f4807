"""Routes of the platform API: they translate between HTTP and the services, and decide nothing."""

import asyncio
from collections.abc import Callable
from hashlib import blake2b
from secrets import token_bytes
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response

from contracts.funnel import FunnelReport
from feed_api.access import PlatformRoute
from feed_api.platform import entities, events, schemas, service
from feed_api.platform.entities import Written
from feed_api.platform.schemas import PersonIn, PostIn, WaitParams
from feed_api.problems import path_of
from feed_api.state import api_state, write_headers

_PRIVATE: Final = {"Cache-Control": "private, no-store"}

router: Final = APIRouter(prefix="/v1/platform", route_class=PlatformRoute, tags=["platform"])

Id = Annotated[
    schemas.ExternalId, Path(description="External id; one with a `/` in it can not be named.")
]
Wait = Annotated[WaitParams, Query()]
Nothing = Annotated[schemas.NoParams, Query()]
Block = Annotated[schemas.BlockParams, Query()]


@router.get("/feed", operation_id="read_feed", response_model=schemas.FeedOut)
async def read_feed(request: Request, params: Annotated[schemas.FeedParams, Query()]) -> Response:
    """Rank a feed for a viewer, or give the next page of one.

    A viewer whom nobody knows gets a feed too. `next` goes into `cursor` for the next page, which
    is cut from the snapshot that the first page was cut from: nothing repeats, nothing is skipped.
    """
    api = api_state(request)
    answer = await api.feed_lane.run(service.read_feed, api, params, api.clock.now_us())
    api.metrics.feed(answer.page)
    headers = dict(_PRIVATE)
    if answer.next_cursor is not None:
        query = {"viewer": params.viewer, "limit": params.limit, "cursor": answer.next_cursor}
        headers["Link"] = f'<{path_of(request)}?{urlencode(query)}>; rel="next"'
    return Response(answer.body, media_type="application/json", headers=headers)


@router.get(
    "/feed/{feed_id}/why/{post_id}", operation_id="explain_post", response_model=schemas.WhyOut
)
async def explain_post(request: Request, feed_id: str, post_id: Id, _: Nothing) -> Response:
    """Explain why a post stands where it stands in a feed, or why it is not there."""
    api = api_state(request)
    body = await api.feed_lane.run(service.explain_post, api, feed_id, post_id)
    return Response(body, media_type="application/json", headers=_PRIVATE)


@router.get(
    "/people/{person_id}/controls/preview",
    operation_id="preview_control",
    response_model=schemas.PreviewOut,
)
async def preview_control(
    request: Request, person_id: Id, params: Annotated[schemas.PreviewParams, Query()]
) -> Response:
    """Show how a wish to see more or fewer of a post's author or topic would change a feed.

    The viewer's last feed is ordered anew; nothing is stored. Post the event to make it so.
    """
    api = api_state(request)
    body = await api.feed_lane.run(service.preview_control, api, person_id, params)
    return Response(body, media_type="application/json", headers=_PRIVATE)


@router.post("/rank", operation_id="rank_posts", response_model=schemas.RankOut)
async def rank_posts(request: Request, wanted: schemas.RankIn, _: Nothing) -> Response:
    """Order the caller's own candidates for a viewer; removed and unknown posts are listed."""
    api = api_state(request)
    body = await api.feed_lane.run(service.rank_posts, api, wanted, api.clock.now_us())
    return Response(body, media_type="application/json")


@router.get("/funnel", operation_id="read_funnel", response_model=FunnelReport)
async def read_funnel(request: Request, _: Nothing) -> Response:
    """Say what became of candidates over the last feeds: sources, filters, levels, times, recall.

    `since_start` counts from the start of the process; all else is of the last 2,000 feeds.
    """
    body = await asyncio.to_thread(service.read_funnel, api_state(request))
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})


@router.post(
    "/events", operation_id="post_events", response_model=schemas.EventsOut, status_code=202
)
async def post_events(request: Request, batch: schemas.EventBatch, wait: Wait) -> Response:
    """Add a batch of events to the log; they are on disk when the answer comes.

    Each row stands for itself: bad ones are listed, the rest is kept. A row with an `event_id` is
    stored once, however often it is sent. Follows, blocks and mutes change the graph as well.
    """
    api = api_state(request)
    name = await _request_name(request)
    now_us = api.clock.now_us()
    added = await api.write_lane.run(events.add_events, api, batch.events, name, now_us)
    api.metrics.events(added.accepted, added.duplicates, len(added.rejected))
    headers = await write_headers(api, added.seq, wait.wait)
    body = added.model_dump_json()
    return Response(body, status_code=202, media_type="application/json", headers=headers)


@router.put("/posts/{post_id}", operation_id="put_post", status_code=204)
async def put_post(request: Request, post_id: Id, wanted: PostIn, wait: Wait) -> Response:
    """Make or change a post: 201 where it is new, 204 where it was there."""
    return await _write(request, wait, entities.put_post, post_id, wanted)


@router.delete("/posts/{post_id}", operation_id="delete_post", status_code=204)
async def delete_post(request: Request, post_id: Id, wait: Wait) -> Response:
    """Delete a post: it leaves all feeds within a second."""
    return await _write(request, wait, entities.delete_post, post_id)


@router.put("/people/{person_id}", operation_id="put_person", status_code=204)
async def put_person(request: Request, person_id: Id, wanted: PersonIn, wait: Wait) -> Response:
    """Say something about a person: 201 where the person is new, 204 otherwise."""
    return await _write(request, wait, entities.put_person, person_id, wanted)


@router.delete("/people/{person_id}", operation_id="delete_person", status_code=204)
async def delete_person(request: Request, person_id: Id, wait: Wait) -> Response:
    """Erase what is said about a person, with all follows and blocks of theirs."""
    return await _write(request, wait, entities.delete_person, person_id)


@router.put("/follows/{follower}/{followee}", operation_id="put_follow", status_code=204)
async def put_follow(request: Request, follower: Id, followee: Id, wait: Wait) -> Response:
    """Let one person follow another: 201 where that is new, 204 otherwise."""
    return await _write(request, wait, entities.put_edge, (follower, followee), "follow")


@router.delete("/follows/{follower}/{followee}", operation_id="delete_follow", status_code=204)
async def delete_follow(request: Request, follower: Id, followee: Id, wait: Wait) -> Response:
    """End a follow."""
    return await _write(request, wait, entities.delete_edge, (follower, followee), "follow")


@router.put("/blocks/{blocker}/{blocked}", operation_id="put_block", status_code=204)
async def put_block(request: Request, blocker: Id, blocked: Id, params: Block) -> Response:
    """Let one person block or mute another: 201 where that is new, 204 otherwise."""
    return await _write(request, params, entities.put_edge, (blocker, blocked), params.kind)


@router.delete("/blocks/{blocker}/{blocked}", operation_id="delete_block", status_code=204)
async def delete_block(request: Request, blocker: Id, blocked: Id, params: Block) -> Response:
    """End a block or mute."""
    return await _write(request, params, entities.delete_edge, (blocker, blocked), params.kind)


async def _write(
    request: Request, wait: WaitParams, work: Callable[..., Written], *arguments: object
) -> Response:
    """Run a write in its lane and answer without a body."""
    api = api_state(request)
    written = await api.write_lane.run(work, api, *arguments, api.clock.now_us())
    headers = await write_headers(api, written.seq, wait.wait)
    return Response(status_code=201 if written.created else 204, headers=headers)


async def _request_name(request: Request) -> bytes:
    """Name a request: the same for a retry under one Idempotency-Key, else unique."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return token_bytes(16)
    digest = blake2b(f"{request.state.caller.key_id} {key} ".encode(), digest_size=16)
    digest.update(await request.body())
    return digest.digest()
