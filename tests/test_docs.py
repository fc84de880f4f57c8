#!/usr/bin/env python3
"""The pages hold together: every link of README.md and docs/*.md leads to a file that is there, every `crocuta COMMAND`
that they name exists, with every long option they give it, and so do every configuration key
and every source file in backticks. A planted
fault of each kind must be found, or this test is worth nothing."""
import glob
import os
import re
import subprocess
import sys

SOURCE = os.environ.get("CROCUTA_SOURCE", os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CROCUTA = os.environ.get("CROCUTA", os.path.join(SOURCE, "build/release/launch/crocuta"))
NOT_KEYS = {"md", "h5", "json", "jsonl", "yaml", "txt", "tsv", "gz", "py", "c", "h", "cu", "sh", "vcf", "bcf", "html", "svg", "png", "safetensors", "tmp"}


def read(name):
    with open(os.path.join(SOURCE, name), encoding="utf-8") as f:
        return f.read()


def run(*arguments):
    return subprocess.run([CROCUTA, *arguments], capture_output=True, text=True, check=True).stdout


def commands_and_options():
    """{command: its long options} from the program's own help."""
    names = re.findall(r"^  ([a-z]+) {2,}\S", run("--help"), re.M)
    return {name: set(re.findall(r"^ {2,}(?:-\w, )? *--([a-z-]+)", run(name, "--help"), re.M)) for name in names}


def keys_and_sections(configuration):
    keys = set(re.findall(r"^\| `([a-z_.]+)` \|", configuration, re.M))
    return keys, {key.split(".")[0] for key in keys if "." in key}


def anchors(text):
    """What a heading is called in a link: lower case, no punctuation, blanks as hyphens."""
    headings = re.findall(r"^#+ +(.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def links(page, text):
    """A line for each link that leads nowhere, and each page named in words that is not there."""
    folder = os.path.dirname(page)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = os.path.normpath(os.path.join(folder, path)) if path else page
        if path and not os.path.exists(os.path.join(SOURCE, there)):
            yield f"{page}: the link {target} leads nowhere"
        elif anchor and anchor not in anchors(text if there == page else read(there)):
            yield f"{page}: the link {target} names no heading"
    for named in set(re.findall(r"\bdocs/[a-z_]+\.(?:md|svg)\b", text)):
        if not os.path.exists(os.path.join(SOURCE, named)):
            yield f"{page}: {named} is not there"


def code_of(text):
    """Indented and fenced blocks and code in backticks: what a reader may type. A line that ends in \\ goes on."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    indented = re.findall(r"^ {4}(.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    return re.sub(r"\\\n\s*", " ", "\n".join(fenced + ["\n".join(indented)] + inline))


def named_commands(page, text, commands):
    for line in code_of(text).split("\n"):
        found = re.search(r"(?:^|[\s/`])crocuta ([a-z]+)\b(?![:=./])(.*)", line.split(" #")[0])
        if not found:
            continue
        command, rest = found.groups()
        if command not in commands:
            yield f"{page}: crocuta {command} is no command: {line.strip()[:70]}"
            continue
        for option in re.findall(r"(?:^|\s)--([a-z][a-z-]*)", rest):
            if option not in commands[command]:
                yield f"{page}: crocuta {command} has no --{option}: {line.strip()[:70]}"


def named_keys(page, text, keys, sections):
    for word in re.findall(r"`([a-z_]+\.[a-z_0-9]+)(?:[:=][^`]*)?`", text):
        section, last = word.split(".")
        if section in sections and last not in NOT_KEYS and word not in keys:
            yield f"{page}: `{word}` is not a configuration key"


def named_files(page, text):
    """`folder/name.c` is there; so is a bare `name.c` behind it in the same table cell or sentence, in some folder of sources."""
    sources = {os.path.basename(f) for f in glob.glob(os.path.join(SOURCE, "**/*.[ch]"), recursive=True)}
    for path in re.findall(r"`([a-z_0-9/]+\.[ch])`", text):
        if path != "cpu/NAME.c" and not (os.path.exists(os.path.join(SOURCE, path)) if "/" in path else path in sources):
            yield f"{page}: `{path}` is no file"


def faults(page, text, commands, keys, sections):
    yield from named_files(page, text)
    yield from links(page, text)
    yield from named_commands(page, text, commands)
    yield from named_keys(page, text, keys, sections)


def main():
    commands = commands_and_options()
    keys, sections = keys_and_sections(read("docs/configuration.md"))
    assert {"import", "pretrain", "evaluate"} <= set(commands), commands
    assert "resume" in commands["pretrain"] and "output" in commands["import"], commands
    assert {"data.path", "train.steps"} <= keys and {"data", "train"} <= sections, keys

    planted = {
        "a [page](nowhere.md)": "leads nowhere",
        "a [part](formats.md#nowhere)": "names no heading",
        "# One\na [part](#two)": "names no heading",
        "see docs/nowhere.md": "is not there",
        "    ./crocuta protrain x.yaml -o run": "is no command",
        "say `crocuta frobnicate x`": "is no command",
        "    mpirun -n 3 ./crocuta pretrain x.yaml \\\n        --resumee": "has no --resumee",
        "```\ncrocuta data info x.h5 --jason\n```": "has no --jason",
        "see `model/spanns.c`": "is no file",
        "see `model/spans.c`, `sites_tyle.c`": "is no file",
        "lower `train.micro_batsh`": "is not a configuration key",
        "set `train.recomputed: all`": "is not a configuration key",
    }
    for text, what in planted.items():
        found = list(faults("docs/planted.md", text, commands, keys, sections))
        assert len(found) == 1 and what in found[0], (text, found)
    for text in ("a [page](formats.md#the-seal)", "# One (`a -o b.h5`)\n[part](#one-a--o-bh5)", "    ./crocuta import -m a.tsv -o b.h5 c.vcf --min-maf 0.01",
                 "`train.steps=20` and `data.import.json` and `data.h5`", "crocuta: error: docs of `crocuta --help`"):
        assert not list(faults("docs/sound.md", text, commands, keys, sections)), text

    pages = ["README.md"] + sorted(os.path.relpath(p, SOURCE) for p in glob.glob(os.path.join(SOURCE, "docs/*.md")))
    bad = [fault for page in pages for fault in faults(page, read(page), commands, keys, sections)]
    for fault in bad:
        print(fault)
    print(f"{len(pages)} pages, {len(commands)} commands, {len(keys)} keys: {len(bad)} faults")
    return 1 if bad or len(pages) < 10 else 0


if __name__ == "__main__":
    sys.exit(main())
