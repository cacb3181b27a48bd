"""Writes tests/data/golden/embedder.jsonl: texts, their word pieces by the tokenizers library (the reference), and their vectors
worked out with numpy from the shipped file.

    python3 tools/embedder/golden.py [models/embedder.rvemb]
"""
import json
import pathlib
import sys

import numpy as np

import fileformat
import minilm

TEXTS = [
    "The library opens at 9:30 on Sundays.",
    "def writeBoolean(self, n):\n    \"\"\"Writes a Boolean to the stream.\"\"\"\n\tself.stream.write(t)",
    "Zürich's cafés, naïve façades & ÅNGSTRÖM – İstanbul",
    "unbelievably antidisestablishmentarianism hyperparameterisation",
    "DC-SIGNR; IL-2Rα, β-catenin (p<0.05) ~37°C",
    "你好世界 and 東京タワー, 한국어 텍스트",
    "Здравствуйте мир! Καλημέρα κόσμε ΣΊΣΥΦΟΣ",
    "emoji 🙂🚀 between words🙂glued",
    "soft\u00adhyphen zero\u200bwidth non\u00a0breaking em\u2003space ﬁ ligature ①",
    "a" * 100 + " " + "b" * 101,
    "x_y-z/w\\v@u#t$s%r^q&p*o(n)m+l=k{j}i[h]g|f:e;d'c\"b<a>,.?!`~",
    "3.14159 1,000,000 2026-11-20T12:00:00Z 0xdeadbeef v1.2.3-rc4",
    "e\u0301te\u0301 n\u0303 \u0130\u0131 \u1e9e\u00df \u01c5 \u2126",
    "हिन्दी में पाठ और ไทย עברית العربية",
    "“quotes” ‘single’ … — • ¿qué? ¡sí! §5 ¶",
    "\u4e2d\u3400\uf900\U00020000x",
    "",
    " \n\t ",
]


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root / "models" / "embedder.rvemb"
    name, _, rows, scales, _, _ = fileformat.unpack(path.read_bytes())
    model = minilm.MiniLM()
    out = root / "tests" / "data" / "golden" / "embedder.jsonl"
    with out.open("w", encoding="utf-8") as f:
        for text in TEXTS:
            ids = model.tokenizer.encode(text, add_special_tokens=False).ids
            total = np.zeros(rows.shape[1], np.float32)
            for i in ids:
                total += scales[i] * rows[i].astype(np.float32)
            length = float(np.sqrt((total.astype(np.float64) ** 2).sum()))
            vector = (total / length if length else total).astype(np.float32)
            json.dump({"text": text, "ids": ids, "embedder": name, "first": [float(x) for x in vector[:8]]}, f)
            f.write("\n")


main()
