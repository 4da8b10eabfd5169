"""What schemathesis can't know of the system: who may do what, and what a number must be to mean anything."""

import datetime
import itertools
import json
import os

import schemathesis

# Who calls; the manager where nothing is said.
CALLERS = {
    "POST /v1/deliveries/{id}/complete": "COURIER",
    "GET /v1/views": "OPERATOR",
    "GET /v1/views/{name}/parked": "OPERATOR",
    "GET /v1/views/{name}/decisions": "OPERATOR",
    "POST /v1/views/{name}/parked/{key}/retry": "OPERATOR",
    "POST /v1/views/{name}/parked/{key}/skip": "OPERATOR",
    "POST /v1/views/{name}/rebuild": "OPERATOR",
    "POST /v1/views/{name}/rollback": "OPERATOR",
}
NOBODY = "00000000-0000-4000-8000-000000000000"
LOWEST = "1970-01-01T00:00:00Z"
count = itertools.count()
ids = json.loads(os.environ["IDS"])


@schemathesis.auth(refresh_interval=None)
class Token:
    def get(self, case, context):
        return os.environ[CALLERS.get(case.operation.label, "MANAGER")]

    def set(self, case, data, context):
        case.headers["Authorization"] = f"Bearer {data}"


def whole(value):
    """A parameter as the number that it says, if it says one."""
    return int(value) if str(value).isdigit() else None


@schemathesis.hook
def before_call(context, case, kwargs):
    """Good requests are made to mean something; bad ones go out as they are."""
    number = next(count)
    label = case.operation.label
    # What the other requests are about is neither retired nor forgotten.
    if case.method == "DELETE" and case.path_parameters.get("id") in (ids["customer"], ids["item"]):
        case.path_parameters["id"] = NOBODY
    if case.meta is None or case.meta.generation.mode.is_negative:
        return
    # Keys shrink to the same few, and another request with a key is refused: scenarios look at that.
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = f"contract-{number}"
    # A cursor is what a list gave out, nobody can make one up.
    case.query.pop("cursor", None)
    # Each read that asks for what has not happened waits 2 s in vain: one in eight is enough. A stream refuses.
    after = whole(case.query.get("after"))
    if after is not None and (after % 8 or label.endswith("/stream")):
        case.query["after"] = after % 50
    # What has not happened yet can't be looked back at.
    as_of = case.query.get("as_of")
    if whole(as_of) is not None:
        case.query["as_of"] = whole(as_of) % 50
    elif as_of is not None and as_of > datetime.datetime.now(datetime.timezone.utc).isoformat():
        case.query["as_of"] = LOWEST
    if isinstance(case.body, dict):
        # JSON Schema takes 7.0 for an integer; we want digits, amounts are never floating point.
        for name, value in case.body.items():
            if isinstance(value, float) and value.is_integer():
                case.body[name] = int(value)
        # Most orders are for what exists.
        if label == "POST /v1/rentals" and number % 4:
            case.body.update(customer_id=ids["customer"], item_id=ids["item"])
