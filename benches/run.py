"""Measures whole runs of the release build and writes docs/benchmarks.md.

usage: benches/run.py [--runs N] [--shared FOLDER] [--only SECTION]

Times come from hyperfine where it is installed and from a timer of its own otherwise; peak memory from GNU time;
instruction counts from valgrind's callgrind. The bundle is built beside mitreattack-python's load of the same file,
in the same run: a ratio says more than seconds of one machine. What is not there is left out, and said to be.
"""

import argparse
import json
import os
import pathlib
import random
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target" / "release" / "ttpmap"
LIBRARY = "mitreattack-python"
BUNDLE = "enterprise-attack-18.1.json"
RECORDS = 2_000


def environment(folder):
    """An environment without the user's settings and installed knowledge bases."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TTPMAP_", "XDG_"))}
    return kept | {"HOME": folder, "TTPMAP_DATA_DIR": folder, "TTPMAP_PROFILE": "fast"}


def timed(command, runs, env):
    """Median and fastest wall time in seconds, after one run that isn't counted."""
    command = [str(part) for part in command]
    if shutil.which("hyperfine"):
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            call = ["hyperfine", "-N", "--warmup", "1", "--runs", str(runs), "--export-json", out.name, shlex.join(command)]
            subprocess.run(call, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            result = json.load(open(out.name, encoding="utf-8"))["results"][0]
            return result["median"], result["min"]
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:]), min(times[1:])


def peak(command, env):
    """Peak resident memory in MB, or None without GNU time."""
    if not pathlib.Path("/usr/bin/time").exists():
        return None
    with tempfile.NamedTemporaryFile(mode="r") as out:
        call = ["/usr/bin/time", "-f", "%M", "-o", out.name, *[str(part) for part in command]]
        subprocess.run(call, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        return int(out.read().split()[-1]) * 1024 / 1e6


def instructions(command, env):
    """Instructions executed, or None without valgrind."""
    if not shutil.which("valgrind"):
        return None
    call = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *[str(part) for part in command]]
    done = subprocess.run(call, env=env, capture_output=True, text=True, check=False)
    found = re.search(r"Collected\s*:\s*(\d+)", done.stderr)
    return int(found.group(1)) if found else None


def python_with(libraries, module):
    """The Python of .venv with a library or several, made on first use; None where they can't be had."""
    libraries = [libraries] if isinstance(libraries, str) else libraries
    python = ROOT / ".venv" / "bin" / "python"
    if not python.exists():
        venv.create(ROOT / ".venv", with_pip=True)
    probe = [str(python), "-c", f"import {module}"]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        install = subprocess.run([str(python), "-m", "pip", "install", "-q", *libraries], check=False)
        if install.returncode != 0:
            return None
    return python


def machine():
    """What the figures were taken on."""
    info = pathlib.Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8")) if info.exists() else []
    return f"{len(names) or os.cpu_count()} cores ({names[0].strip() if names else 'unknown'})"


def tool_version(command, pattern):
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(pattern, text)
    return found.group(1) if found else "?"


def seconds(value):
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def measure(rows, name, command, runs, env, limit="", count=False):
    print(f"{name} ...", file=sys.stderr, flush=True)
    median, fastest = timed(command, runs, env)
    row = {
        "name": name,
        "median": median,
        "fastest": fastest,
        "peak": peak(command, env),
        "instructions": instructions(command, env) if count else None,
        "limit": limit,
    }
    rows.append(row)
    return row


def run_all(runs, shared, folder):
    env = environment(str(folder))
    rows, notes = [], []
    measure(rows, "`lookup T1059.001`", [PROGRAM, "lookup", "T1059.001"], runs, env, "5 ms, 20 MB", count=True)
    measure(rows, '`lookup "pasword sprayng"`', [PROGRAM, "lookup", "pasword sprayng"], runs, env, count=True)
    news = shared / "samples" / "telecom-news.txt"
    if news.exists():
        text = f"`map` of a news article ({news.stat().st_size:,} bytes)"
        measure(rows, text, [PROGRAM, "map", news, "--format", "json"], runs, env, "10 ms")
    else:
        notes.append("The news article was not there: left out.")
    example = ROOT / "examples" / "northwind-orchards.txt"
    text = f"`map` of examples/{example.name} ({example.stat().st_size:,} bytes)"
    measure(rows, text, [PROGRAM, "map", example, "--format", "json"], runs, env)
    packed = shared / "attack" / f"{BUNDLE}.xz"
    if not packed.exists() or not shutil.which("xz"):
        notes.append("The bundle (or xz) was not there: building left out.")
        return rows, notes
    bundle = folder / BUNDLE
    with open(bundle, "wb") as out:
        subprocess.run(["xz", "-dc", str(packed)], stdout=out, check=True)
    few = max(3, runs // 10)
    size = bundle.stat().st_size / 1e6
    ours = measure(
        rows,
        f"`kb build` of {BUNDLE} ({size:.0f} MB): read, model taken over and taught, written",
        [PROGRAM, "kb", "build", bundle, "--quiet", "-o", folder / "out.ttpkb"],
        few,
        env,
        "10 s, 500 MB",
    )
    python = python_with(LIBRARY, "mitreattack.stix20")
    if python is None:
        notes.append(f"{LIBRARY} could not be installed: left out.")
        return rows, notes
    load = [python, "-c", f"from mitreattack.stix20 import MitreAttackData; MitreAttackData({str(bundle)!r})"]
    version = tool_version([str(python), "-m", "pip", "show", LIBRARY], r"Version: (\S+)")
    theirs = measure(rows, f"{LIBRARY} {version}: `MitreAttackData` of the same file", load, few, env)
    line = f"{LIBRARY} takes {theirs['median'] / ours['median']:.1f} times as long to load the bundle as ttpmap takes to read it, teach its model and write it"
    if ours["peak"] and theirs["peak"]:
        line += f", and {theirs['peak'] / ours['peak']:.1f} times the memory"
    notes.append(line + ".")
    ask = rows[0]
    notes.append(
        f"A look-up with ttpmap, process start included, takes {seconds(ask['median'])}: "
        f"{theirs['median'] / ask['median']:,.0f} times less than {LIBRARY} needs before its first answer."
    )
    return rows, notes


def own_sentences():
    """The sentences of data/training, each behind its technique, in an order that mixes them and is the same every time."""
    out, technique = [], None
    for path in sorted((ROOT / "data" / "training").glob("*.txt")):
        for line in map(str.strip, path.read_text(encoding="utf-8").splitlines()):
            if line.startswith("## "):
                technique = line[3:].split()[0]
            elif line and not line.startswith("#"):
                out.append((technique, re.sub(r"\s*\[T[^]]*\]\s*$", "", line)))
    return [out[(i * 2741) % len(out)] for i in range(len(out))]


def corpora(shared):
    """Texts with their sentences: own ones, sixty a text, where all describe a technique; and reports, where few do."""
    own = [sentence for _, sentence in own_sentences()]
    texts = [own[i : i + 60] for i in range(0, len(own), 60)]
    out = {"sentences of data/training": [("\n\n".join(" ".join(t[i : i + 5]) for i in range(0, len(t), 5)), t) for t in texts]}
    packed = shared / "eval" / "many-vendors-dev.jsonl.xz"
    if packed.exists() and shutil.which("xz"):
        lines = subprocess.run(["xz", "-dc", str(packed)], capture_output=True, check=True).stdout.splitlines()
        reports = []
        for line in lines:
            report = json.loads(line)
            text = report["text"].encode()
            reports.append((report["text"], [text[g["start"] : g["end"]].decode(errors="replace") for g in report["gold"]]))
        out["reports of many publishers"] = reports
    return out


def mapping(shared, folder, env, stream):
    """`map` of JSON Lines on one core and on all, beside scikit-learn on the same sentences; and memory over a long stream."""
    rows, notes, memory = [], [], []
    python = python_with("scikit-learn", "sklearn")
    if python is None:
        notes.append("scikit-learn could not be installed: left out.")
    training = folder / "training.json"
    training.write_text(json.dumps(own_sentences()), encoding="utf-8")
    for name, texts in corpora(shared).items():
        print(f"mapping {name} ...", file=sys.stderr, flush=True)
        source, answers = folder / "texts.jsonl", folder / "answers.jsonl"
        with open(source, "w", encoding="utf-8") as out:
            out.writelines(json.dumps({"text": text}) + "\n" for text, _ in texts)
        size = sum(len(text.encode()) for text, _ in texts)
        sentences = [s for _, listed in texts for s in listed]
        command = [PROGRAM, "map", source, "--format", "jsonl", "--quiet", "-o", answers]
        one, all_cores = (timed([*command, "--jobs", jobs], 7, env)[0] for jobs in ("1", "0"))
        theirs = None
        if python is not None:
            asked = folder / "sentences.json"
            asked.write_text(json.dumps(sentences), encoding="utf-8")
            call = [str(python), str(ROOT / "benches" / "sentences.py"), str(training), str(asked)]
            single = env | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            done = subprocess.run(call, env=single, capture_output=True, text=True, check=True)
            theirs = float(done.stdout.split()[-1])
            notes.append(f"scikit-learn takes {theirs / one:.1f} times as long for {name}, and finds no spans, statuses or artifacts.")
        rows.append((name, len(sentences), size, one, all_cores, theirs))
    if stream:
        lines = [json.dumps({"text": text}) + "\n" for text, _ in corpora(pathlib.Path("nowhere"))["sentences of data/training"]]
        once = sum(map(len, lines))
        for size in (10_000_000, 100_000_000, 1_000_000_000):
            print(f"a stream of {size // 1_000_000} MB ...", file=sys.stderr, flush=True)
            long = folder / "long.jsonl"
            with open(long, "w", encoding="utf-8") as out:
                for _ in range(size // once + 1):
                    out.writelines(lines)
            command = [PROGRAM, "map", long, "--format", "jsonl", "--quiet", "-o", "/dev/null"]
            memory.append((long.stat().st_size, peak(command, env)))
            long.unlink()
    return rows, memory, notes


def mapping_page(rows, memory, notes):
    out = [
        "",
        "## Mapping",
        "",
        "`map` of JSON Lines into JSON Lines with `--profile fast` (linear models, phrases, artifacts, statuses), whole runs; beside it scikit-learn's",
        "tf-idf and linear classifier on the same sentences, cut already, on one core (benches/sentences.py; loading left out).",
        "",
        "| texts | sentences | bytes | one core | a sentence | a second | all cores | scikit-learn, a sentence |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, sentences, size, one, all_cores, theirs in rows:
        other = f"{theirs / sentences * 1e6:.0f} us" if theirs else ""
        out.append(
            f"| {name} | {sentences:,} | {size:,} | {seconds(one)} | {one / sentences * 1e6:.0f} us | {size / one / 1e6:.1f} MB "
            f"| {seconds(all_cores)} | {other} |"
        )
    out += ["", *[f"- {note}" for note in notes]]
    if memory:
        told = ", ".join(f"{size / 1e6:,.0f} MB: {used:.0f} MB" for size, used in memory if used)
        out.append(f"- Peak memory over a stream of JSON Lines, all cores, by its length: {told}.")
    return "\n".join(out + [""])


def reading(folder, env):
    """Reading alone, without mapping, of the narrative in each kind; and of a long PDF beside pdftotext, in the same run."""
    documents = ROOT / "tests" / "data" / "documents"
    names = ["txt", "md", "html", "docx", "eml"]
    files = [documents / f"narrative.{name}" for name in names] + sorted(documents.glob("narrative-[clw]*.pdf"))
    notes = []
    if shutil.which("qpdf"):
        # Pages of all three producers, fifty times over.
        pdfs, long = [str(f) for f in files if f.suffix == ".pdf"], folder / "long.pdf"
        subprocess.run(["qpdf", "--empty", "--pages", *(pdfs * 50), "--", str(long)], check=False, stderr=subprocess.DEVNULL)
        files.append(long)
    else:
        notes.append("qpdf was not there: the long PDF is left out.")
    call = ["cargo", "bench", "--quiet", "--bench", "reading", "--", *map(str, files)]
    print("reading ...", file=sys.stderr, flush=True)
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True)
    out = []
    for line in done.stdout.splitlines():
        name, size, letters, pages, median = line.split("\t")
        out.append((pathlib.Path(name).name, int(size), int(letters), int(pages), float(median)))
    long = folder / "long.pdf"
    if long.exists() and shutil.which("pdftotext"):
        median, _ = timed(["pdftotext", long, folder / "long.txt"], 5, env)
        pages, ours = next((p, m) for n, _, _, p, m in out if n == "long.pdf")
        version = subprocess.run(["pdftotext", "-v"], capture_output=True, text=True, check=False).stderr
        version = re.search(r"version (\S+)", version)
        notes.append(
            f"The long PDF has {pages:,} pages: ttpmap reads {pages / ours:,.0f} a second, pdftotext {version.group(1) if version else ''} "
            f"(a whole process) {pages / median:,.0f}, which is {median / ours:.1f} times ttpmap's time."
        )
    elif long.exists():
        notes.append("pdftotext was not there: left out.")
    return out, notes


def reading_page(rows, notes):
    out = [
        "",
        "## Reading",
        "",
        "From bytes to a document with its segments, without mapping (benches/reading.rs): the narrative of tests/data/documents in each",
        "kind, medians.",
        "",
        "| document | bytes | text | pages | median | a second |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, size, letters, pages, median in rows:
        speed = f"{pages / median:,.0f} pages" if pages else f"{size / median / 1e6:,.0f} MB"
        out.append(f"| {name} | {size:,} | {letters:,} | {pages or ''} | {median * 1000:.2f} ms | {speed} |")
    return "\n".join(out + ["", *[f"- {note}" for note in notes], ""])


def streams(folder, env):
    """Whole runs over many inputs, on one core and on all: a folder of files, and the same texts as JSON Lines."""
    text = (ROOT / "examples" / "northwind-orchards.txt").read_text(encoding="utf-8")
    pieces = [p for p in re.split(r"\n\s*\n", text) if len(p) > 40]
    generator = random.Random(1)
    texts = ["\n\n".join(generator.choice(pieces) for _ in range(8)) for _ in range(RECORDS)]
    files, lines = folder / "many", folder / "many.jsonl"
    files.mkdir()
    for number, one in enumerate(texts):
        (files / f"{number:05}.txt").write_text(one, encoding="utf-8")
    lines.write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(texts)), encoding="utf-8")
    size = sum(len(t.encode()) for t in texts)
    cores = os.cpu_count() or 1
    out = []
    for name, source, more in [("a folder of files", files, []), ("JSON Lines", lines, []), ("JSON Lines, `--summary`", lines, ["--summary"])]:
        for jobs in sorted({1, cores}):
            print(f"{name}, {jobs} ...", file=sys.stderr, flush=True)
            form = "json" if more else "jsonl"
            call = [PROGRAM, "map", source, "--format", form, "--jobs", str(jobs), "-o", "/dev/null", *more]
            median, _ = timed(call, 3, env)
            out.append((name, jobs, median, size / median / 1e6, len(texts) / median, peak(call, env)))
    return out


def streams_page(rows):
    out = [
        "",
        "## Many inputs",
        "",
        f"Whole runs with `--profile fast` over {RECORDS:,} texts put together from paragraphs of the example, medians of three.",
        "",
        "| inputs | threads | median | text a second | inputs a second | peak memory |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, jobs, median, speed, count, memory in rows:
        memory = f"{memory:.1f} MB" if memory else ""
        out.append(f"| {name} | {jobs} | {seconds(median)} | {speed:.1f} MB | {count:,.0f} | {memory} |")
    return "\n".join(out + [""])


MODEL = ROOT / "models" / "encoder.ttpmodel"
REPORT_SENTENCES = range(95, 106)


def encoder(shared, folder, env):
    """Whole runs with the encoder, and the encoder alone beside onnxruntime with the same weights (benches/encoder.py)."""
    rows, notes = [], []
    if not MODEL.exists():
        return rows, [f"{MODEL.name} was not there: left out."]
    packed = shared / "eval" / "many-vendors-dev.jsonl.xz"
    if packed.exists() and shutil.which("xz"):
        lines = subprocess.run(["xz", "-dc", str(packed)], capture_output=True, check=True, text=True).stdout.splitlines()
        reports = [json.loads(line) for line in lines]
        everything, ordinary = folder / "reports.jsonl", folder / "ordinary.txt"
        everything.write_text("\n".join(lines) + "\n", encoding="utf-8")
        some = next((r for r in reports if len(r["gold"]) in REPORT_SENTENCES), reports[0])
        ordinary.write_text(some["text"], encoding="utf-8")
        count = sum(len(r["gold"]) for r in reports)
        for profile in ("fast", "balanced", "thorough"):
            for name, source, sentences in [("one report", ordinary, len(some["gold"])), (f"{len(reports)} reports", everything, count)]:
                print(f"{profile}, {name} ...", file=sys.stderr, flush=True)
                call = [PROGRAM, "map", source, "--format", "jsonl", "--profile", profile, "--jobs", "1", "-o", "/dev/null"]
                median, _ = timed(["taskset", "-c", "0", *call], 3, env)
                rows.append((profile, name, sentences, median, peak(call, env)))
    else:
        notes.append("The labelled reports (or xz) were not there: whole runs left out.")
    python = python_with("onnxruntime onnx onnxscript torch tokenizers numpy".split(), "onnxruntime, onnx, torch, tokenizers")
    if python is None:
        return rows, [*notes, "onnxruntime could not be installed: left out."]
    print("the encoder beside onnxruntime ...", file=sys.stderr, flush=True)
    call = ["taskset", "-c", "0", str(python), str(ROOT / "benches" / "encoder.py"), str(PROGRAM), str(MODEL)]
    done = subprocess.run(call, env=env | {"OMP_NUM_THREADS": "1", "TTPMAP_PROFILE": "balanced"}, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    count = told["sentences"]
    notes.append(
        f"The encoder alone on {count:,} sentences of data/training/reports, each with the one before it as context ({told['pieces']:.0f} pieces of their own in the mean), one core: "
        f"{count / told['ours']:,.0f} a second; onnxruntime {told['runtime']} with the same weights as 32-bit floats {count / told['theirs']:,.0f}. "
        f"Largest difference of a probability (of none): {told['off']:.5f}."
    )
    notes.append(f"The model file has {told['size']:,} bytes; a whole process that opens it and reads nothing takes {seconds(told['opening'])}.")
    return rows, notes


def encoder_page(rows, notes):
    out = [
        "",
        "## Encoder",
        "",
        f"`map` by profile on one core ({machine()}), reports of many publishers; whole runs, start and opening of the model",
        "included.",
        "",
        "| profile | texts | sentences | median | sentences a second | peak memory |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for profile, name, sentences, median, memory in rows:
        memory = f"{memory:.0f} MB" if memory else ""
        out.append(f"| `{profile}` | {name} | {sentences:,} | {seconds(median)} | {sentences / median:,.0f} | {memory} |")
    return "\n".join(out + ["", *[f"- {note}" for note in notes], ""])


def page(rows, notes, runs):
    version = tool_version([str(PROGRAM), "--version"], r"ttpmap (\S+)")
    attack = tool_version([str(PROGRAM), "kb", "info"], r"techniques, tactics\s+as of ATT&CK (\S+)")
    size = PROGRAM.stat().st_size / 1e6
    timer = "hyperfine" if shutil.which("hyperfine") else "a timer in the script"
    out = [
        "# Benchmarks",
        "",
        "Written by `make bench` (benches/run.py); do not edit. Whole processes, start included, release build, warm file",
        f"cache; {runs} runs each (a tenth of that where the bundle is read), timed by {timer}. Peak memory is the resident set that GNU",
        "time reports, instructions are callgrind's. Limits are the project's own aims.",
        "",
        f"ttpmap {version}, built-in ATT&CK {attack}, a program of {size:.1f} MB; {machine()}, shared with other work.",
        "",
        "| what | median | fastest | peak memory | instructions | limit |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        memory = f"{row['peak']:.1f} MB" if row["peak"] else ""
        count = f"{row['instructions'] / 1e6:.1f} M" if row["instructions"] else ""
        out.append(f"| {row['name']} | {seconds(row['median'])} | {seconds(row['fastest'])} | {memory} | {count} | {row['limit']} |")
    out += ["", *[f"- {note}" for note in notes], ""]
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50, help="runs of each command (50)")
    default = os.environ.get("TTPMAP_SHARED", ROOT / ".." / "shared")
    parser.add_argument("--shared", type=pathlib.Path, default=pathlib.Path(default), help="folder with attack/, eval/ and samples/")
    parser.add_argument("--only", choices=["mapping", "reading", "inputs", "encoder"], help="measure one section, and replace it")
    parser.add_argument("--no-stream", action="store_true", help="leave out the streams of up to 1 GB (minutes)")
    args = parser.parse_args()
    if not PROGRAM.exists():
        sys.exit("no release build: run `make build` first")
    target = ROOT / "docs" / "benchmarks.md"
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        env = environment(str(folder))
        sections = {
            "mapping": lambda: mapping_page(*mapping(args.shared, folder, env, not args.no_stream)),
            "reading": lambda: reading_page(*reading(folder, env)),
            "inputs": lambda: streams_page(streams(folder, env)),
            "encoder": lambda: encoder_page(*encoder(args.shared, folder, env)),
        }
        if args.only:
            # "# Benchmarks" and what stands before the first section, then the sections in the order above.
            parts = re.split(r"(?m)^(?=## )", target.read_text(encoding="utf-8"))
            if len(parts) != len(sections) + 1:
                sys.exit(f"{target}: not the sections that this program writes; run it without --only")
            parts[1 + list(sections).index(args.only)] = sections[args.only]().strip("\n") + "\n\n"
            whole = "".join(parts).rstrip("\n") + "\n"
        else:
            whole = page(*run_all(args.runs, args.shared, folder), args.runs) + "".join(write() for write in sections.values())
    target.parent.mkdir(exist_ok=True)
    target.write_text(whole, encoding="utf-8")
    print(whole)


if __name__ == "__main__":
    main()
