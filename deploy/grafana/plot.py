"""Draws panels of the dashboard from what a Prometheus has seen: docs/dashboard.png.

    pip install matplotlib
    python deploy/grafana/plot.py http://127.0.0.1:9090 START SECONDS docs/dashboard.png
"""

import json
import pathlib
import sys
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PANELS = [
    "Requests by route",
    "Time by route, p99",
    "Time of a commit",
    "Commits and events",
    "Rentals and holds",
    "Steps of the processes",
    "Calls to the payment gateway",
    "Views behind, events",
    "Notices",
]
STEP = 1  # second
# More lines than this can't be told from each other: the largest are drawn.
LINES = 6


def values(prometheus, expression, start, seconds):
    query = {"query": expression, "start": start, "end": start + seconds, "step": STEP}
    address = f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(address) as answer:
        return json.load(answer)["data"]["result"]


def legend(template, labels):
    for name, value in labels.items():
        template = template.replace("{{%s}}" % name, value)
    return template


def draw(axes, panel, prometheus, start, seconds):
    lines = []
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", "5s")
        for series in values(prometheus, expression, start, seconds):
            points = [(at - start, float(value)) for at, value in series["values"]]
            points = [(at, value) for at, value in points if value == value]
            if any(value for _, value in points):
                lines.append((max(value for _, value in points), points, legend(target["legendFormat"], series["metric"])))
    for _, points, name in sorted(lines, key=lambda line: -line[0])[:LINES]:
        axes.plot(*zip(*points), label=name, linewidth=1)
    axes.set_title(panel["title"] + {"s": " (seconds)", "reqps": " (per second)", "ops": " (per second)"}.get(
        panel["fieldConfig"]["defaults"]["unit"], ""), fontsize=9)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if lines:
        axes.legend(fontsize=5.5, loc="upper right", framealpha=0.6)


def main(prometheus, start, seconds, picture):
    dashboard = json.loads((pathlib.Path(__file__).parent / "dashboards/rentstream.json").read_text())
    panels = {panel["title"]: panel for panel in dashboard["panels"]}
    figure, grid = plt.subplots(3, 3, figsize=(13, 8.5), layout="constrained")
    for axes, title in zip(grid.flat, PANELS):
        draw(axes, panels[title], prometheus, float(start), float(seconds))
    figure.suptitle(dashboard["title"], fontsize=11)
    figure.savefig(picture, dpi=75, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main(*sys.argv[1:])
