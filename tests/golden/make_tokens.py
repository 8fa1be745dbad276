"""Writes tokens.json: texts and their tokens, by google-research/bert's tokenization.py.

    pip install tensorflow==1.15.5 "protobuf<3.21" bert-tensorflow==1.0.4    # Python 3.7
    python tests/golden/make_tokens.py

bert-tensorflow is Google's own package of google-research/bert. The texts hold only
characters that Unicode 11 (Python 3.7) assigns, so that later Pythons agree.
"""

import io
import json
import os
import random
import tempfile
import unicodedata

from absl import flags
from bert import tokenization

WRITTEN = [
    "",
    " \t\r\n ",
    "初婚未育证明怎么弄？",
    "iPhone6s手机,怎么截屏!多少钱?￥4,999.00元",
    "ＡＢＣ１２３，全角！　空格",
    "Héllo Wörld naïve CAFÉ Ångström ﬁn",
    "UNaffable unaffable un##aff [CLS] [SEP] [MASK] [unused1]",
    "don't e-mail a_b@c.com http://x.y/?z=1&w=%20 $5^2 `code` ~",
    "\u200bzero\u200dwidth\ufeff soft\u00adhyphen nul\x00 repl\ufffd ctl\x07\x85\x1f",
    "tab\tnew\nline\rreturn\u00a0nbsp\u3000wide\u2028ls\u2029ps",
    "😀👍🏽👨‍👩‍👧 🇨🇳 ☺️ ❤",
    "ΟΔΥΣΣΕΥΣ ΑΣ. Σ İstanbul ıI ǅ ẞ STRASSE",
    "한국어 ひらがな カタカナ ｶﾞ ภาษาไทย हिन्दी العَرَبِيَّة עִבְרִית",
    "𠀀𪜀𫝀𫠠 㐀 豈 丽 〇 々",
    "e\u0301\u0327 a\u0308\u0301 \u0301 q\u0323\u0307",
    "a" * 200 + " " + "a" * 201,
    "。，、；：？！…—·「」『』（）《》〈〉【】“”‘’",
]
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##aff", "##able", "want", "##want"]
VOCAB += ["##ed", "wa", "runn", "##ing", ",", "？", "!", "手", "机", "怎", "么", "证", "明", "好"]
VOCAB += [
    "a",
    "##a",
    "##aa",
    "aaaa",
    "he",
    "##llo",
    "hello",
    "world",
    "caf",
    "##e",
    "cafe",
    "1",
    "##2",
]
PIECES = [
    "unaffable wanted running wants",
    "手机怎么证明,好? 手 机！",
    "hello cafe helloe worldx 12 122 21",
    "a aa aaa aaaa aaaaa " + "a" * 200 + " " + "a" * 201,
    "",
]


def random_texts():
    """Texts that hold, for each category of Unicode, some of its characters."""
    generator = random.Random(11)
    by_category = {}
    for codepoint in range(0x110000):
        by_category.setdefault(unicodedata.category(chr(codepoint)), []).append(chr(codepoint))
    for category in ("Cn", "Cs", "Co"):
        del by_category[category]
    for _, chars in sorted(by_category.items()):
        for _ in range(4):
            yield "".join("x%sY " % c for c in generator.sample(chars, min(8, len(chars))))
    everything = [c for chars in by_category.values() for c in chars]
    for _ in range(40):
        yield "".join(generator.choice(everything) for _ in range(16))


def main():
    flags.FLAGS(["make_tokens"])
    golden = {"vocab": VOCAB, "basic": [], "full": []}
    for lower in (True, False):
        tokenizer = tokenization.BasicTokenizer(do_lower_case=lower)
        for text in WRITTEN + list(random_texts()):
            golden["basic"].append([lower, text, tokenizer.tokenize(text)])
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as vocab:
        vocab.write("\n".join(VOCAB) + "\n")
        vocab.flush()
        tokenizer = tokenization.FullTokenizer(vocab.name, do_lower_case=True)
        for text in PIECES:
            tokens = tokenizer.tokenize(text)
            golden["full"].append([text, tokens, tokenizer.convert_tokens_to_ids(tokens)])
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokens.json")
    with io.open(path, "w", encoding="utf-8") as writer:
        json.dump(golden, writer, indent=0)
        writer.write("\n")


if __name__ == "__main__":
    main()
