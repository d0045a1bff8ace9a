"""Checks MISP events of ttpmap with PyMISP, and their tags with MISP's own galaxies.

usage: misp_check.py EVENT.json...

PyMISP refuses attributes whose type doesn't go with their category. The galaxies are of another ATT&CK release than
the knowledge base, so a tag whose ID they don't know passes, and a few may be named otherwise.
"""

import copy
import json
import re
import sys

from pymisp import MISPEvent
from pymispgalaxies import Clusters

TAG = re.compile(r'misp-galaxy:([a-z-]+)="(.+ - ([A-Z]+\d{4}(?:\.\d{3})?))"')


def known():
    clusters = Clusters()
    out = {}
    for name in ("mitre-attack-pattern", "mitre-intrusion-set", "mitre-malware", "mitre-tool"):
        out[name] = {value.rsplit(" - ", 1)[-1]: value for value in (c.value for c in clusters[name].values())}
    return out


def problems(event, galaxies):
    loaded = MISPEvent()
    loaded.load(copy.deepcopy(event))
    back = json.loads(loaded.to_json())
    mine = event["Event"]
    found = []
    if back["uuid"] != mine["uuid"] or back["info"] != mine["info"] or back["date"] != mine["date"]:
        found.append("PyMISP changes the event")
    theirs = {a["uuid"]: a for a in back.get("Attribute", [])}
    for attribute in mine["Attribute"]:
        there = theirs.get(attribute["uuid"])
        if there is None or any(there[k] != attribute[k] for k in ("type", "category", "value", "comment", "to_ids")):
            found.append(f"PyMISP changes the attribute {attribute['uuid']}")
    values = [(a["type"], a["value"]) for a in mine["Attribute"]]
    if len(set(values)) != len(values):
        found.append("a value is there twice: MISP takes it once")
    tags = [t["name"] for t in mine["Tag"]]
    if [t["name"] for t in back.get("Tag", [])] != tags:
        found.append("PyMISP changes the tags")
    checked = same = 0
    for tag in tags + [t["name"] for a in mine["Attribute"] for t in a["Tag"]]:
        match = TAG.fullmatch(tag)
        if not match or match[1] not in galaxies:
            found.append(f"no tag of a galaxy: {tag}")
        elif match[3] in galaxies[match[1]]:
            checked += 1
            same += galaxies[match[1]][match[3]] == match[2]
    if same * 10 < checked * 9:
        found.append(f"of {checked} tags MISP spells {checked - same} otherwise")
    return found


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    galaxies = known()
    failed = False
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        events = content.get("response", [content])
        found = []
        for event in events:
            try:
                found += problems(event, galaxies)
            except Exception as error:  # PyMISP has many kinds
                found.append(f"PyMISP: {error}")
        failed |= bool(found)
        print(f"{path}: {len(events)} events, {'as they were written' if not found else 'wrong'}")
        for line in found[:20]:
            print(f"  {line}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
