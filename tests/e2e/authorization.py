"""Who may do what: one row for every operation of the OpenAPI document and every event that a socket takes.

The columns are a stranger, the seeker and the helper of the thing asked for, and an administrator who has no part in it.
For nobody, somebody suspended and somebody whose session has ended a row needs no columns: see GUARDED and OPEN. `state`
says what must be there first (World.make in test_authorization.py); `body` is sent, with {gig} and the like filled in.
A PATCH stands for its PUT. An operation or event without a row fails the test.
"""

import collections
import struct
import zlib

from pictures import chunk

ROLES = ("stranger", "seeker", "helper", "admin")
# What an operation behind a token answers to those who have no good one.
GUARDED = {"nobody": 401, "ended": 401, "suspended": 403}

Row = collections.namedtuple("Row", ["state", "statuses", "body"])


def row(state, stranger, seeker, helper, admin, body=None):
    return Row(state, {"stranger": stranger, "seeker": seeker, "helper": helper, "admin": admin}, body)


def everybody(status=200, body=None, state=None):
    return row(state, status, status, status, status, body)


# A form with a picture of one grey pixel.
PICTURE = (b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n\x89PNG\r\n\x1a\n'
           + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"\0\x80"))
           + chunk(b"IEND", b"") + b"\r\n--x--\r\n")
PICTURE_FIELDS = {"Content-Type": "multipart/form-data; boundary=x"}

OPERATIONS = {
    "account.delete": everybody(204),
    "account.export": everybody(),
    "admin.audit_log": row(None, 403, 403, 403, 200),
    "admin.own_report": row("report", 404, 200, 404, 404),
    "admin.read_report": row("report", 403, 403, 403, 200),
    "admin.read_user": row("another", 403, 403, 403, 200),
    "admin.report": everybody(201, {"user_id": "{users}", "reason": "Spam"}, "another"),
    "admin.reports": row(None, 403, 403, 403, 200),
    "admin.resolve_report": row("report", 403, 403, 403, 200, {"resolution": "DISMISSED"}),
    "admin.restore": row("another", 403, 403, 403, 200, {"reason": "By mistake"}),
    "admin.suspend": row("another", 403, 403, 403, 200, {"reason": "Spam"}),
    "auth.change_password": everybody(204, {"current_password": "{password}", "new_password": "{password} again"}),
    "auth.end_other_sessions": everybody(204),
    "auth.end_session": row("session", 404, 204, 404, 404),
    "auth.logout": everybody(204),
    "auth.logout_by_delete": everybody(204),
    "auth.me": everybody(),
    "auth.profile_setup": everybody(409, {"name": "Another"}, "set_up"),
    "auth.resend_verification": everybody(202),
    "auth.sessions": everybody(),
    "auth.socket_ticket": everybody(),
    "buddies.add": row("buddy", 201, 409, 422, 201, {"buddy_id": "{helper}"}),
    "buddies.available": everybody(),
    "buddies.change": row("buddy", 404, 200, 404, 404, {"notes": "Mine now"}),
    "buddies.list": everybody(),
    "buddies.read": row("buddy", 404, 200, 404, 404),
    "buddies.remove": row("buddy", 404, 204, 404, 404),
    "chat.mark_read": row("accepted", 404, 200, 200, 404, {"seq": 1}),
    "chat.messages": row("accepted", 404, 200, 200, 404),
    "chat.room": row("accepted", 404, 200, 200, 404),
    "chat.rooms": everybody(),
    "chat.send": row("accepted", 404, 201, 201, 404, {"content": "Hello"}),
    "gigs.accept": row("pending", 200, 409, 200, 200),
    "gigs.cancel": row("accepted", 403, 204, 403, 403),
    "gigs.change": row("pending", 403, 200, 403, 403, {"title": "Mine now"}),
    "gigs.create": everybody(201, {"title": "One more", "description": "Of them", "duration_hours": 1, "budget": 100,
                                   "latitude": 13.75, "longitude": 100.54}),
    "gigs.events": row("accepted", 403, 200, 200, 403),
    "gigs.list": everybody(),
    "gigs.map": everybody(),
    "gigs.mine": everybody(),
    "gigs.read": row("accepted", 200, 200, 200, 200),
    "gigs.search": everybody(),
    "gigs.set_status": row("accepted", 403, 200, 200, 403, {"status": "IN_PROGRESS"}),
    "gigs.withdraw": row("accepted", 403, 409, 200, 403, {"reason": "Ill"}),
    "payments.calculate_fee": everybody(200, {"amount": 100}),
    "payments.dispute": row("held", 404, 200, 200, 403, {"reason": "Not done"}),
    "payments.history": everybody(),
    "payments.hold": row("accepted", 403, 201, 403, 403, {"gig_id": "{gig}"}),
    "payments.of_gig": row("held", 404, 200, 200, 200),
    "payments.read": row("held", 404, 200, 200, 200),
    "payments.refund": row("held", 403, 403, 403, 200),
    "payments.release": row("paid_work", 404, 200, 403, 403),
    "payments.split": row("disputed", 403, 403, 403, 200, {"payee_amount": 100}),
    "payments.summary": everybody(),
    "payments.wallet": everybody(),
    "reviews.can_review": row("completed", 200, 200, 200, 200),
    "reviews.change": row("review", 403, 200, 403, 403, {"rating": 1}),
    "reviews.mine": everybody(),
    "reviews.of_gig": row("review", 200, 200, 200, 200),
    "reviews.of_user": row("review", 200, 200, 200, 200),
    "reviews.read": row("review", 200, 200, 200, 200),
    "reviews.remove": row("review", 403, 204, 403, 403),
    "reviews.reputation": everybody(200),
    "reviews.write": row("completed", 403, 201, 201, 403, {"gig_id": "{gig}", "rating": 5}),
    "uploads.chat": everybody(201, PICTURE),
    "uploads.gig": everybody(201, PICTURE),
    "uploads.link": row("upload", 404, 200, 404, 404),
    "uploads.mine": everybody(),
    "uploads.profile": everybody(201, PICTURE),
    "uploads.remove": row("upload", 404, 204, 404, 404),
    "users.block": everybody(204, None, "another"),
    "users.blocks": everybody(),
    "users.change_me": everybody(200, {"bio": "New"}),
    "users.me": everybody(),
    "users.nearby": everybody(),
    "users.profile": everybody(),
    "users.read": everybody(200),
    "users.set_availability": everybody(200, {"is_available": True}),
    "users.set_location": everybody(200, {"latitude": 13.7, "longitude": 100.5}),
    "users.set_reputation": row(None, 403, 403, 403, 200, {"score": 4, "reason": "By mistake"}),
    "users.unblock": everybody(204, None, "another"),
}

# Open to everybody, with a token or without, and whatever became of it.
OPEN = {"auth.confirm_password_reset", "auth.login", "auth.password_reset", "auth.refresh", "auth.register",
        "auth.verify_email", "system.asyncapi", "system.docs", "system.docs_file", "system.health",
        "system.live", "system.metrics", "system.openapi", "system.ready", "uploads.file", "uploads.thumbnail"}
# An open operation that is no plain read: its body, and what it answers.
OPEN_ANSWERS = {
    "auth.login": ({"email": "nobody@example.com", "password": "not the right one"}, 401),
    "auth.confirm_password_reset": ({"token": "x", "password": "river crossing at noon"}, 422),
    "auth.password_reset": ({"email": "nobody@example.com"}, 202),
    "auth.verify_email": ({"token": "x"}, 422),
    "auth.refresh": ({"refresh_token": "x"}, 401),
    "auth.register": ({"email": "x", "password": "x"}, 422),
    "system.docs_file": (None, 404),
    "uploads.file": (None, 404),
    "uploads.thumbnail": (None, 404),
}
QUERIES = {"gigs.map": "min_latitude=13&min_longitude=100&max_latitude=14&max_longitude=101&zoom=10",
           "users.nearby": "latitude=13.7&longitude=100.5"}

# Event: what it is answered, by whom; an error by its code, in capitals what is no error.
EVENTS = {
    "authenticate": everybody("READY", {"access_token": "{token}"}),
    "join_room": row("accepted", "not_found", "ROOM_JOINED", "ROOM_JOINED", "not_found", {"room_id": "{room}"}),
    "leave_room": row("accepted", "ROOM_LEFT", "ROOM_LEFT", "ROOM_LEFT", "ROOM_LEFT", {"room_id": "{room}"}),
    "mark_read": row("accepted", "not_found", "READ_RECEIPT", "READ_RECEIPT", "not_found", {"room_id": "{room}", "seq": 1}),
    "send_message": row("accepted", "not_found", "MESSAGE_ACK", "MESSAGE_ACK", "not_found",
                        {"room_id": "{room}", "content": "Hello", "client_id": "{fresh}"}),
    "typing": row("accepted", "not_joined", "not_joined", "not_joined", "not_joined", {"room_id": "{room}", "is_typing": True}),
    "unwatch_area": everybody("AREA_UNWATCHED", {}),
    "watch_area": everybody("AREA_WATCHED", {"latitude": 13.75, "longitude": 100.54, "radius_km": 5}),
}
