"""Draws docs/house.svg and docs/batch.svg: plain boxes and arrows, so that they can be changed with the text."""

import os

HERE = os.path.dirname(os.path.abspath(__file__))
FONT = 'font-family="sans-serif"'


def box(x, y, w, h, title, text="", fill="#f4efe6"):
    out = [f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="6" fill="{fill}" stroke="#5b4a32"/>']
    out.append(f'<text x="{x + w / 2}" y="{y + (h / 2 - 4 if text else h / 2 + 5)}" text-anchor="middle" {FONT} font-size="15" font-weight="bold">{title}</text>')
    if text:
        out.append(f'<text x="{x + w / 2}" y="{y + h / 2 + 15}" text-anchor="middle" {FONT} font-size="12" fill="#444">{text}</text>')
    return out


def arrow(x1, y1, x2, y2, label=""):
    out = [f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#5b4a32" stroke-width="1.5" marker-end="url(#tip)"/>']
    if label:
        out.append(f'<text x="{(x1 + x2) / 2}" y="{(y1 + y2) / 2 - 6}" text-anchor="middle" {FONT} font-size="11" fill="#444">{label}</text>')
    return out


def picture(name, width, height, parts):
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    tip = '<defs><marker id="tip" markerWidth="9" markerHeight="9" refX="8" refY="4.5" orient="auto"><path d="M0,0 L9,4.5 L0,9 z" fill="#5b4a32"/></marker></defs>'
    with open(os.path.join(HERE, name), "w") as f:
        f.write("\n".join([head, tip, f'<rect width="{width}" height="{height}" fill="white"/>'] + parts + ["</svg>"]) + "\n")


def house():
    floors = [("launch/", "commands and scripts"), ("experiments/", "studies and reports"), ("runtime/train/", "loop, optimizer, coordinator, evaluation"),
              ("model/", "Hyena, position encodings, plan"), ("io/", "data set, VCF, draws, checkpoints"), ("comm/", "ranks: MPI"),
              ("kernels/", "operations on CPU cores"), ("runtime/core/", "status, log, arenas, numbers, config")]
    parts = ['<polygon points="40,70 310,10 580,70" fill="#c9a66b" stroke="#5b4a32"/>',
             f'<text x="310" y="52" text-anchor="middle" {FONT} font-size="16" font-weight="bold">crocuta</text>']
    for i, (title, text) in enumerate(floors):
        parts += box(60, 70 + 56 * i, 500, 56, title, text, "#f4efe6" if i % 2 else "#fbf8f2")
    parts += arrow(600, 90, 600, 500)
    parts.append(f'<text x="612" y="300" {FONT} font-size="12" fill="#444">includes</text>')
    parts.append(f'<text x="612" y="316" {FONT} font-size="12" fill="#444">point down</text>')
    picture("house.svg", 700, 540, parts)


def batch():
    steps = [("VCF", "people"), ("data set", "HDF5 columns"), ("draw", "seed, step, slot"), ("embed", "allele + A[row] B"), ("blocks", "Hyena + MLP"), ("loss", "next allele")]
    parts = []
    for i, (title, text) in enumerate(steps):
        parts += box(20 + 160 * i, 40, 125, 62, title, text)
        if i:
            parts += arrow(145 + 160 * (i - 1), 71, 20 + 160 * i, 71)
    parts += arrow(882, 102, 882, 160)
    parts += box(800, 160, 165, 62, "gradients", "sums over tokens")
    parts += arrow(800, 191, 665, 191, "all-reduce")
    parts += box(480, 160, 185, 62, "optimizer", "AdamW, lazy Adam on rows")
    parts += arrow(572, 160, 572, 104, "")
    picture("batch.svg", 985, 245, parts)


if __name__ == "__main__":
    house()
    batch()
