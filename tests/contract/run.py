"""Starts a fresh system with a little in it, lets schemathesis loose on it, and ends it."""

import json
import os
import pathlib
import signal
import string
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM = HERE.parent.parent / "target" / "debug" / "rentstream"
SEED = "20240601"
# A started system has told its address by then, on a slow machine too.
START_WITHIN = 120


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="rentstream-contract-") as folder:
        data = pathlib.Path(folder)
        settings = {
            **os.environ,
            "RENTSTREAM_DATA": str(data),
            "RENTSTREAM_LISTEN": "127.0.0.1:0",
            "RENTSTREAM_RATE_LIMIT": "off",
        }
        # Private servers, whatever the surroundings say.
        for name in ("DATABASE_URL", "VIEWS_DATABASE_URL", "NATS_URL", "PAYMENT_GATEWAY_URL"):
            settings.pop(name, None)
        with open(data / "up.log", "wb") as log:
            system = subprocess.Popen([PROGRAM, "up"], env=settings, stdout=log, stderr=log)
        try:
            url = address(system, data)
            failed = contract(url, settings)
            if system.poll() is not None:
                failed = failed or 1
                print("The system has ended by itself.", file=sys.stderr)
            if failed:
                print((data / "up.log").read_text(errors="replace")[-4000:], file=sys.stderr)
            return failed
        finally:
            system.send_signal(signal.SIGINT)
            system.wait(60)


def address(system: subprocess.Popen, data: pathlib.Path) -> str:
    """Where the system is, once it can take its work."""
    until = time.monotonic() + START_WITHIN
    while time.monotonic() < until and system.poll() is None:
        written = data / "addresses.env"
        for line in written.read_text().splitlines() if written.exists() else []:
            name, _, url = line.partition("=")
            try:
                if name == "RENTSTREAM_URL" and urllib.request.urlopen(f"{url}/health/ready"):
                    return url
            except OSError:
                pass
        time.sleep(0.1)
    sys.exit("The system did not start:\n" + (data / "up.log").read_text(errors="replace"))


def contract(url: str, settings: dict) -> int:
    def token(role: str, subject: str) -> str:
        command = [PROGRAM, "token", "--role", role, "--sub", subject]
        return subprocess.run(command, env=settings, check=True, capture_output=True, text=True).stdout.strip()

    manager = token("manager", "contract")

    def write(path: str, body: dict, key: str) -> dict:
        # Ids follow from the key, so they are the same in every run.
        headers = {
            "Authorization": f"Bearer {manager}",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        }
        request = urllib.request.Request(url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    customer = write("/v1/customers", {"name": "Kim Min-ji", "address": "12 Bukchon-ro, Seoul"}, "customer")["customer_id"]
    write(f"/v1/customers/{customer}/points", {"amount": 1_000_000_000}, "points")
    book = {"title": "채식주의자", "price": 1_500, "terms": {"type": "loan"}, "fulfilment": "delivery", "units": 1_000_000}
    item = write("/v1/items", book, "item")["item_id"]
    order = {"customer_id": customer, "item_id": item, "payment": {"method": "points"}}
    rentals = [write("/v1/rentals", order, f"rental-{n}") for n in range(20)]

    ids = {"customer": customer, "item": item, **{name: rentals[0][f"{name}_id"] for name in ("rental", "delivery")}}
    environment = {
        **os.environ,
        "IDS": json.dumps(ids),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MANAGER": manager,
        "COURIER": token("courier", "contract"),
        "OPERATOR": token("operator", "contract"),
    }
    # What schemathesis leaves behind goes with the folder.
    config = pathlib.Path(settings["RENTSTREAM_DATA"]) / "schemathesis.toml"
    written = string.Template((HERE / "schemathesis.toml").read_text())
    config.write_text(written.substitute(ids, hooks=HERE / "hooks.py"))
    schemathesis = pathlib.Path(sys.executable).parent / "schemathesis"
    command = [schemathesis, "--config-file", config, "run", f"{url}/openapi.json", "--seed", SEED]
    return subprocess.run([*command, *sys.argv[1:]], env=environment, cwd=config.parent).returncode


if __name__ == "__main__":
    sys.exit(main())
