"""Checks that mitreattack-python takes a layer of `ttpmap map --format navigator` whole.

usage: navigator_check.py LAYER.json...

mitreattack-python prints and leaves the layer None where it doesn't like something, and alters some things
silently; so the layer is loaded and compared with what comes back out.
"""

import json
import sys

from mitreattack.navlayers import Layer


def differences(mine, theirs, path=""):
    """Every place where what came back is not what went in. An empty list that is left out is the same."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in sorted(set(mine) | set(theirs)):
            if key not in theirs and mine[key] != []:
                yield f"{path}/{key}: dropped"
            elif key in mine and key in theirs:
                yield from differences(mine[key], theirs[key], f"{path}/{key}")
            elif key not in mine:
                yield f"{path}/{key}: added {theirs[key]!r}"
    elif isinstance(mine, list) and isinstance(theirs, list):
        if len(mine) != len(theirs):
            yield f"{path}: {len(mine)} elements became {len(theirs)}"
        for i, (a, b) in enumerate(zip(mine, theirs)):
            yield from differences(a, b, f"{path}/{i}")
    elif mine != theirs or type(mine) is not type(theirs):
        yield f"{path}: {mine!r} became {theirs!r}"


def check(path):
    with open(path, encoding="utf-8") as file:
        mine = json.load(file)
    layer = Layer()
    layer.from_dict(mine)
    if layer.layer is None:
        return ["mitreattack-python refuses it (it says why above)"]
    # Plain values, whatever classes the library keeps them in.
    theirs = json.loads(json.dumps(layer.to_dict()))
    return list(differences(mine, theirs))


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    failed = False
    for path in sys.argv[1:]:
        found = check(path)
        failed |= bool(found)
        print(f"{path}: {'as it was written' if not found else 'altered'}")
        for line in found:
            print(f"  {line}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
