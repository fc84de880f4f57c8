# The report and the comparison from invented runs and evaluations: pictures inside the page, SIMULATED in each of them, a lost comparison
# said plainly, n beside numbers, CSV and TensorBoard files, one line and the right code for damaged input.
# Pictures need matplotlib: that part is skipped without it.
import csv
import gzip
import json
import os
import re
import struct
import subprocess
import sys
import tempfile

SOURCE = os.environ.get("CROCUTA_SOURCE", os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
CROCUTA = os.environ["CROCUTA"]
SCRIPT = os.path.join(SOURCE, "experiments", "report.py")


def with_matplotlib():
    for python in (os.environ.get("CROCUTA_PYTHON"), os.path.join(SOURCE, "build/venv/bin/python"), sys.executable):
        if python and os.path.exists(python) and subprocess.run([python, "-c", "import matplotlib"], capture_output=True).returncode == 0:
            return python
    return None


def result(method, context, accuracy):
    return {"method": method, "context": context, "phase": "union", "n_people": 243, "n_windows": 40619, "median_span_bp": 93301.0, "accuracy": accuracy,
            "ci_people": [accuracy - 0.01, accuracy + 0.01], "ci_blocks": [accuracy - 0.02, accuracy + 0.02], "balanced_accuracy": accuracy, "log_loss": 0.25, "ece": 0.031,
            "accuracy_person": 1.0, "ci_person": [1.0, 1.0], "per_population": {"YRI": {"accuracy": 0.625, "n_people": 1, "n_windows": 8, "ci_people": [None, None], "ci_blocks": [0.5, 0.75]}},
            "per_superpopulation": {}, "confused_pairs": [], "confusion": [[90, 10], [20, 80]],
            "calibration": [{"n_windows": 10, "confidence": 0.7, "accuracy": 0.6}, {"n_windows": 0, "confidence": None, "accuracy": None}]}


def evaluation(simulated):
    return {"schema": "crocuta/evaluate/1", "model": "runs/<a>", "split": "test", "labels": ["AFR", "<EUR>"], "command": "crocuta evaluate 'a b'",
            "results": [result("model", 128, 0.83), result("logistic", 128, 0.92), result("model", 512, 0.99), result("logistic", 512, 0.97)],
            "paired": [{"a": "model", "b": "logistic", "context": 128, "difference": -0.09, "ci_people": [-0.1, -0.08], "n_people": 243, "n_windows": 40619},
                       {"a": "model", "b": "logistic", "context": 512, "difference": 0.02, "ci_people": [0.01, 0.03], "n_people": 243, "n_windows": 8535}],
            "perplexity": {"autoregressive": 1.41, "position_conditioned": None, "lookup_autoregressive": 1.45, "lookup_position": 1.001, "context": 128, "alpha": 1, "n_people": 243,
                           "n_windows": 40619, "targets": 5158613},
            "data": {"path": "people.h5", "assembly": "GRCh37", "split_hash": "0123456789abcdef", "simulated": simulated, "people": {"train": 843, "valid": 121, "test": 243}},
            "seeds": {"bootstrap": 1}, "regions": ["1:5-90"], "excluded_regions": [], "missing": 0.5, "wrong": 0,
            "altered": {"judged_sites": 4000, "missing_sites": 2011, "wrong_carried": 0, "wrong_absent": 0}}


def make_inputs(folder, simulated):
    run, judged = os.path.join(folder, "run"), os.path.join(folder, "judged")
    os.makedirs(run)
    os.makedirs(judged)
    with open(os.path.join(run, "metrics.jsonl"), "w") as f:
        for step in (1, 2, 3, 3):  # a resume did step 3 again
            f.write(json.dumps({"step": step, "split": "train", "loss": 2.0 - 0.1 * step, "lr": 1e-3, "time": 5.0}) + "\n")
        f.write(json.dumps({"step": 3, "split": "valid", "loss": 1.75, "lookup_perplexity": 1.45, "time": 6.0}) + "\n")
        f.write('{"step": 4, "spl')  # still being written
    with open(os.path.join(judged, "evaluate.json"), "w") as f:
        json.dump(evaluation(simulated), f)
    return run, judged


def report(python, *arguments):
    return subprocess.run([python, SCRIPT, *arguments], capture_output=True, text=True)


def check_page(python, folder):
    for name, in_data, flag in (("plain", False, []), ("data", True, []), ("flag", False, ["--simulated"])):
        os.makedirs(os.path.join(folder, name))
        run, judged = make_inputs(os.path.join(folder, name), in_data)
        page = os.path.join(folder, name, "report.html")
        done = report(python, run, judged, *flag, "-o", page)
        assert done.returncode == 0, done.stderr
        text = open(page, encoding="utf-8").read()
        import base64
        pictures = [base64.b64decode(x) for x in re.findall(r"src='data:image/png;base64,([^']+)'", text)]
        assert len(pictures) == 4, len(pictures)  # accuracy, confusion, calibration, loss
        assert all(p.startswith(b"\x89PNG") for p in pictures)
        said = [b"SIMULATED" in p for p in pictures]
        assert all(said) if name != "plain" else not any(said), (name, said)
        assert ("SIMULATED" in text) == (name != "plain")
        assert "http://" not in text and "https://" not in text, "the page must be self-contained"
        assert "At 128 SNPs the model LOST to logistic regression: -9.00 points" in text
        assert "At 512 SNPs the model is better than logistic regression: +2.00 points" in text
        assert "40,619 windows of 243 people" in text and "8,535 windows of 243 people" in text
        assert "<EUR>" not in text and "runs/<a>" not in text, "names must be escaped"
        assert "<td>YRI</td><td class=t>population</td><td>62.50</td><td>–</td><td>[50.00, 75.00]</td><td>8</td><td>1</td>" in text
        assert "judged only within 1:5-90; 50.0 % of the sites without a call (2,011 of 4,000)" in text
        assert not os.path.exists(page + ".tmp")


def judge(folder, name, right, simulated=False, hash_="0123456789abcdef"):
    """An evaluation of two people with two windows each; right: of each window, whether the model was."""
    out = os.path.join(folder, name, "evaluate")
    os.makedirs(out)
    document = evaluation(simulated)
    accuracy = sum(right) / len(right)
    document["results"] = [result("logistic", 128, 0.5), result("model", 128, accuracy)]
    document["paired"] = [{"a": "model", "b": "logistic", "context": 128, "difference": accuracy - 0.5, "ci_people": [accuracy - 0.6, accuracy - 0.4], "n_people": 2, "n_windows": 4}]
    document["data"]["split_hash"] = hash_
    with open(os.path.join(out, "evaluate.json"), "w") as f:
        json.dump(document, f)
    with gzip.open(os.path.join(out, "windows.tsv.gz"), "wt") as f:
        f.write("sample\thap\tchrom\tstart\tend\tn_snps\tlabel\tpredicted\n")
        for k, ok in enumerate(right):
            f.write(f"{'AB'[k // 2]}\t0\t1\t{100 * k}\t{100 * k + 50}\t128\tX\t{'X' if ok else 'Y'}\n")
    return out


def check_comparison(python, folder):
    def compare(*arguments):
        return subprocess.run([python, os.path.join(SOURCE, "experiments", "compare.py"), *arguments], capture_output=True, text=True)

    # Person A: one window more, person B: two more. Drawn again: 0.5, 0.75 or 1 of the windows, 0.5 and 1 with a quarter each.
    first, second = judge(folder, "first", [1, 0, 0, 0]), judge(folder, "second", [1, 1, 1, 1])
    done = compare(f"old={first}", f"new={second}")
    assert done.returncode == 0, done.stderr
    words = [line.split() for line in done.stdout.split("\n")]
    assert ["old", "25.00", "[24.00,", "26.00]"] in words and ["new", "100.00", "[99.00,", "101.00]"] in words, done.stdout
    assert ["old", "+75.00", "[+50.00,", "+100.00]"] in words and ["logistic", "+50.00", "[+40.00,", "+60.00]"] in words, done.stdout
    assert "new is better than logistic, old" in done.stdout and "LOST" not in done.stdout and "SIMULATED" not in done.stdout
    done = compare(f"new={second}", f"old={first}", "--simulated")
    assert "old LOST to logistic, new" in done.stdout and "better" not in done.stdout and done.stdout.startswith("SIMULATED"), done.stdout
    assert ["new", "-75.00", "[-100.00,", "-50.00]"] in [line.split() for line in done.stdout.split("\n")], done.stdout
    one_line(compare(f"a={first}", f"b={judge(folder, 'other', [1, 1, 1, 1], hash_='f' * 16)}"), 3, "other windows")
    one_line(compare(f"a={first}", f"b={judge(folder, 'fewer', [1, 1, 1])}"), 3, "other windows")
    one_line(compare(f"a={folder}"), 3, "not an evaluation")
    page = os.path.join(folder, "two.html")
    done = report(python, os.path.join(folder, "first"), os.path.join(folder, "second"), "-o", page)
    assert done.returncode == 0, done.stderr
    sys.path.insert(0, os.path.join(SOURCE, "experiments"))
    import report as module
    assert module.short_name("/a/study/evaluate/") == "study" and module.short_name("judged/x") == "x" and module.short_name("evaluate") == "evaluate"


def check_csv(folder):
    run, judged = make_inputs(os.path.join(folder, "csv"), False)
    out = os.path.join(folder, "out.csv")
    assert report(sys.executable, judged, "--format", "csv", "-o", out).returncode == 0
    rows = list(csv.DictReader(open(out)))
    assert [(r["method"], r["context"], r["accuracy"], r["ci_people_low"], r["n_windows"]) for r in rows][:2] == [
        ("model", "128", "0.83", "0.82", "40619"), ("logistic", "128", "0.92", "0.91", "40619")], rows[:2]
    assert report(sys.executable, run, "--format", "csv", "-o", out).returncode == 0
    rows = list(csv.DictReader(open(out)))
    assert [(r["step"], r["split"]) for r in rows] == [("1", "train"), ("2", "train"), ("3", "train"), ("3", "valid")], rows


def check_tensorboard(folder):
    sys.path.insert(0, os.path.join(SOURCE, "experiments"))
    sys.dont_write_bytecode = True
    import report as module
    assert module.crc32c(b"123456789") == 0xE3069283  # RFC 3720's check value of the polynomial
    run, _ = make_inputs(os.path.join(folder, "tb"), False)
    assert report(sys.executable, run, "--format", "tensorboard", "-o", os.path.join(folder, "events")).returncode == 0
    data = open(os.path.join(folder, "events", "run", "events.out.tfevents.0.crocuta"), "rb").read()
    events = []
    while data:
        (n, crc), body = struct.unpack("<QI", data[:12]), data[12:12 + struct.unpack("<Q", data[:8])[0]]
        assert crc == module.masked(data[:8]) and struct.unpack("<I", data[12 + n:16 + n])[0] == module.masked(body)
        events.append(body)
        data = data[16 + n:]
    assert b"brain.Event:2" in events[0]
    assert sum(b"train/loss" in e for e in events) == 3 and sum(b"valid/lookup_perplexity" in e for e in events) == 1
    at = events[1].index(b"train/loss") + len(b"train/loss")
    assert events[1][at:at + 1] == b"\x15" and abs(struct.unpack("<f", events[1][at + 1:at + 5])[0] - 1.9) < 1e-6


def one_line(done, code, words):
    lines = done.stderr.strip().split("\n")
    assert done.returncode == code and len(lines) == 1 and lines[0].startswith("crocuta: error: ") and words in lines[0], (done.returncode, done.stderr)


def check_refusals(folder):
    _, judged = make_inputs(os.path.join(folder, "bad"), False)
    environment = dict(os.environ, CROCUTA_PYTHON=sys.executable)

    def crocuta(*arguments, **extra):
        return subprocess.run([CROCUTA, "report", *arguments], capture_output=True, text=True, env=dict(environment, **extra))

    out = os.path.join(folder, "bad.csv")
    one_line(crocuta(os.path.join(folder, "nothing"), "-o", out), 3, "no such directory")
    one_line(crocuta(folder, "-o", out), 3, "neither metrics.jsonl nor evaluate.json")
    one_line(crocuta(judged, "-o", out, "--format", "pdf"), 2, "pdf")
    one_line(crocuta(judged, "-o", out, CROCUTA_PYTHON="/no/such/python"), 4, "setup --python")
    open(os.path.join(judged, "evaluate.json"), "w").write('{"schema": "crocuta/evaluate/1", "resu')
    one_line(crocuta(judged, "-o", out, "--format", "csv"), 3, "evaluate.json")
    assert not os.path.exists(out)


with tempfile.TemporaryDirectory() as folder:
    check_csv(folder)
    check_tensorboard(folder)
    check_refusals(folder)
    python = with_matplotlib()
    if python is None:
        print("no Python with matplotlib (./launch/setup --python makes one): pictures are not tested")
        sys.exit(77)
    check_page(python, folder)
    check_comparison(python, os.path.join(folder, "compared"))
print("ok")
