"""Holds what kustomize makes of deploy/k8s against the Kubernetes API's own schemas, and its parts against each other.

    manifests.py FOLDER    of files NAME.yaml
"""

import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml

# The oldest that has what is used (preStop's sleep), and the newest that the schemas know.
VERSIONS = ["1.30", kubernetes_validate.latest_version()]
CUSTOM = yaml.safe_load((Path(__file__).parent / "custom-kinds.yaml").read_text())
# Those of production are made by CloudNativePG, or kept wherever the shop keeps secrets; certificates likewise.
ELSEWHERE = {"log-app", "views-app", "tokens", "payments", "notices", "shop-tls", "log", "views"}
LOCAL = "local"
# What Compose's Prometheus is given, and promtool tests.
RULES = sorted((Path(__file__).parent.parent / "prometheus" / "rules").glob("*.yml"))


def schema_errors(doc):
    custom = CUSTOM.get(f"{doc['apiVersion']} {doc['kind']}")
    try:
        if custom:
            kept = {"apiVersion": True, "kind": True, "metadata": {"$ref": "#/$defs/metadata"}, "spec": custom}
            whole = {"$defs": CUSTOM["$defs"], "properties": kept, "additionalProperties": False}
            jsonschema.validate(doc, whole)
        else:
            for version in VERSIONS:
                kubernetes_validate.validate(doc, version, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        yield f"{'.'.join(str(part) for part in error.absolute_path)}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError:
        yield "no schema knows this kind; add what is used of it to custom-kinds.yaml"


def selects(selector, labels):
    return all(labels.get(name) == value for name, value in selector.items())


def container_errors(pod, container, known, elsewhere):
    """Each NAME_FILE is a file of a secret that is mounted; what is mounted is there."""
    mounted = {}
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    for mount in container.get("volumeMounts", []):
        volume = volumes.get(mount["name"], {})
        if "secret" in volume:
            name = volume["secret"]["secretName"]
            if name not in elsewhere and name not in known["Secret"]:
                yield f"there's no secret {name}"
            mounted[mount["mountPath"]] = (known["Secret"].get(name), volume["secret"].get("items"))
        if "configMap" in volume and volume["configMap"]["name"] not in known["ConfigMap"]:
            yield f"there's no config map {volume['configMap']['name']}"
    for env in container.get("env", []):
        if not env["name"].endswith("_FILE"):
            continue
        folder, _, key = env["value"].rpartition("/")
        if folder not in mounted:
            yield f"{env['name']} is {env['value']}, where nothing is mounted"
            continue
        secret, items = mounted[folder]
        keys = [item["path"] for item in items] if items else (secret or {}).get("data")
        if keys is not None and key not in keys:
            yield f"{env['name']} is {env['value']}, but the secret has {', '.join(keys)}"
    for source in container.get("envFrom", []):
        if source["configMapRef"]["name"] not in known["ConfigMap"]:
            yield f"there's no config map {source['configMapRef']['name']}"


def probe_errors(doc, container):
    """A probe of each kind; live asks for nothing but life."""
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"]:
        if doc["kind"] != "Job" and probe not in container:
            yield f"{container['name']} has no {probe}"
    for probe in ["startupProbe", "livenessProbe"]:
        if "ready" in container.get(probe, {}).get("httpGet", {}).get("path", ""):
            yield f"{container['name']}'s {probe} depends on what it needs: Postgres would restart it"


def rule_errors(doc):
    """The operator is given what Compose's Prometheus is."""
    if doc["spec"]["groups"] != [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]:
        yield "its groups aren't those of deploy/prometheus/rules; run deploy/k8s/components/monitoring/rules.sh"


def errors_of(name, docs):
    known = {kind: {} for kind in ["Secret", "ConfigMap", "Deployment", "StatefulSet", "Service"]}
    for doc in docs:
        known.setdefault(doc["kind"], {})[doc["metadata"]["name"]] = doc
    workloads = [doc for doc in docs if "template" in doc.get("spec", {})]
    labels = [doc["spec"]["template"]["metadata"]["labels"] for doc in workloads]
    for doc in docs:
        found = list(schema_errors(doc))
        spec, kind = doc.get("spec", {}), doc["kind"]
        if doc in workloads:
            pod = spec["template"]["spec"]
            for container in pod["containers"] + pod.get("initContainers", []):
                found += container_errors(pod, container, known, set() if name == LOCAL else ELSEWHERE)
            for container in pod["containers"]:
                found += probe_errors(doc, container)
        if kind == "PrometheusRule":
            found += rule_errors(doc)
        selector = spec["selector"] if kind == "Service" else (spec.get("selector") or {}).get("matchLabels", {})
        if kind in ["Service", "PodDisruptionBudget", "Deployment", "StatefulSet"]:
            hits = sum(selects(selector, pod) for pod in labels)
            if hits != 1:
                found.append(f"its selector finds {hits} workloads: {selector}")
        target = spec.get("scaleTargetRef")
        if target and target["name"] not in known["Deployment"]:
            found.append(f"there's no deployment {target['name']}")
        for error in found:
            yield f"{name}: {kind} {doc['metadata']['name']}: {error}"


def main(folder):
    errors, count, custom = [], 0, set()
    for file in sorted(Path(folder).glob("*.yaml")):
        docs = [doc for doc in yaml.safe_load_all(file.read_text()) if doc]
        errors += errors_of(file.stem, docs)
        count += len(docs)
        custom |= {doc["kind"] for doc in docs if f"{doc['apiVersion']} {doc['kind']}" in CUSTOM}
    if errors or not count:
        print("\n".join(dict.fromkeys(errors)) or f"there's nothing in {folder}", file=sys.stderr)
        return 1
    print(f"{count} resources fit Kubernetes {' and '.join(VERSIONS)}.")
    print(f"Only held against our own part of their schemas: {', '.join(sorted(custom))}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
