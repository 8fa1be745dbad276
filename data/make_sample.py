"""Writes data/sample: made-up pairs of Chinese questions in LCQMC's format.

  python data/make_sample.py [--output_dir=data/sample]

A question asks for one intent with one thing: 请问信用卡怎么注销. Both have several names, and
so has what stands around them. A paraphrase tends to change it all; another question tends to
keep all but one name, that of another intent or thing. So characters alone tell little: 借记卡
beside 储蓄卡 is the same card, beside 公交卡 it is another one.

Each name and each wording occurs in train, but a question of dev or test does not, not even
with another opening or ending. The same command writes the same files.
"""

import collections
import io
import os
import random
import zlib

from absl import app, flags

FLAGS = flags.FLAGS

SEED = 2020
SIZES = collections.OrderedDict(train=8000, dev=1000, test=1000)
# How often a pair's wording changes, and each name that may stay, by the pair's label.
WORDING_CHANGES = {"0": 0.3, "1": 0.75}
NAME_CHANGES = {"0": 0.4, "1": 0.7}

Kind = collections.namedtuple("Kind", "frames intents things")
"""Questions of one kind: each intent can be asked of each thing, in each frame.

Fields:
  frames: list of str with {T} and {I}, the places of the thing's and the intent's name.
  intents, things: lists of lists of names; those of one list mean the same.
"""

Wording = collections.namedtuple("Wording", "opening frame ending")
"""What a question has around its names: three str, the frame with {T} and {I}."""

Question = collections.namedtuple("Question", "kind wording intent thing")
"""A Kind and a Wording; of the intent and the thing, the numbers (concept, name)."""

# No two openings, and no two endings, have the same length but for none at all.
OPENINGS = ["", "", "", "请问", "你好，", "大家好，"]
ENDINGS = ["", "", "", "？", "，谢谢", "，谢谢了"]

TO_A_THING = [
    "{T}怎么{I}",
    "如何{I}{T}",
    "怎样才能{I}{T}",
    "{T}应该怎样{I}才好",
    "{I}{T}有哪些好办法",
    "有没有{I}{T}的窍门",
]
TO_A_PERSON = [
    "如何{I}{T}",
    "怎样才能{I}{T}",
    "{I}{T}有哪些好办法",
    "有没有{I}{T}的窍门",
    "要{I}{T}该怎么做",
    "用什么方法可以{I}{T}",
]
ABOUT = [
    "{T}的{I}怎么样",
    "{T}的{I}是什么情况",
    "有人清楚{T}的{I}吗",
    "能介绍一下{T}的{I}吗",
    "哪里可以了解{T}的{I}",
    "关于{T}的{I}有哪些说法",
]


def _concepts(text):
    """Reads concepts, separated by spaces, their names by slashes."""
    return [concept.split("/") for concept in text.split()]


KINDS = [
    Kind(
        TO_A_THING,
        _concepts("办理/申请 注销/取消 激活/启用 补办/重新领取"),
        _concepts(
            "信用卡/贷记卡 储蓄卡/借记卡 公交卡/交通卡 饭卡/就餐卡 电话卡/手机卡 门禁卡/出入卡"
        ),
    ),
    Kind(
        TO_A_THING,
        _concepts("修理/维修 购买/入手 清洁/擦拭 转卖/出售"),
        _concepts("手机/移动电话 电脑/计算机 电视/彩电 耳机/耳麦 空调/冷气机 冰箱/雪柜"),
    ),
    Kind(
        TO_A_THING,
        _concepts("种植/栽培 保存/储藏 烹饪/料理 挑选/选择"),
        _concepts("土豆/马铃薯 西红柿/番茄 红薯/地瓜 玉米/苞谷 花生/长生果 菠萝/凤梨"),
    ),
    Kind(
        TO_A_THING,
        _concepts("驾驶/开 保养/维护 购置/买 转让/卖出"),
        _concepts("轿车/小汽车 电动车/电瓶车 摩托车/机车 货车/卡车 出租车/的士 公交车/巴士"),
    ),
    Kind(
        TO_A_THING,
        _concepts("治疗/医好 预防/避免 诊断/识别 缓解/减轻"),
        _concepts("感冒/伤风 腹泻/拉肚子 便秘/大便干结 脚气/足癣 粉刺/青春痘 发烧/发热"),
    ),
    Kind(
        TO_A_PERSON,
        _concepts("安慰/开导 感谢/报答 照顾/照料 劝说/说服"),
        _concepts("爸爸/父亲 妈妈/母亲 妻子/老婆 丈夫/老公 爷爷/祖父 奶奶/祖母"),
    ),
    Kind(
        ABOUT,
        _concepts("天气/冷暖 房价/楼市行情 小吃/美食 交通/出行"),
        _concepts("北京/首都 上海/魔都 广州/羊城 成都/蓉城 重庆/山城 昆明/春城"),
    ),
    Kind(
        ABOUT,
        _concepts("工资/薪水/收入 前景/出路 压力/辛苦程度 门槛/入行条件"),
        _concepts("老师/教员 医生/大夫 农民/庄稼人 警察/公安 程序员/码农 司机/驾驶员"),
    ),
]


def main(argv):
    del argv
    os.makedirs(FLAGS.output_dir, exist_ok=True)
    for split, lines in make_splits().items():
        path = os.path.join(FLAGS.output_dir, split + ".txt")
        with io.open(path, "w", encoding="utf-8", newline="\n") as writer:
            writer.writelines("\t".join(line) + "\n" for line in lines)


def make_splits():
    """Returns a dict from split to a list of (text_a, text_b, label), half of each label."""
    return {split: make_pairs(split, count) for split, count in SIZES.items()}


def make_pairs(split, count):
    """Returns `count` different pairs of the split's questions."""
    rng = random.Random("%s %d" % (split, SEED))
    pairs = collections.OrderedDict()
    while len(pairs) < count:
        label = str(len(pairs) % 2)
        question = draw_question(rng)
        partner = draw_partner(rng, question, label)
        # A change of opening or ending alone never leaves its split: dev would be full of them.
        if core(question) == core(partner):
            continue
        if split_of(question) == split_of(partner) == split:
            texts = (render(question), render(partner))
            pairs.setdefault(tuple(sorted(texts)), texts + (label,))
    lines = list(pairs.values())
    rng.shuffle(lines)
    return lines


def draw_question(rng):
    """Draws a question."""
    kind = rng.choice(KINDS)
    intent, thing = _draw_name(rng, kind.intents), _draw_name(rng, kind.things)
    return Question(kind, _draw_wording(rng, kind), intent, thing)


def _draw_wording(rng, kind):
    return Wording(rng.choice(OPENINGS), rng.choice(kind.frames), rng.choice(ENDINGS))


def _draw_name(rng, concepts):
    concept = rng.randrange(len(concepts))
    return concept, rng.randrange(len(concepts[concept]))


def draw_partner(rng, question, label):
    """Draws a question that means the same (label 1), or another intent or thing (label 0)."""
    kind, wording = question.kind, question.wording
    if rng.random() < WORDING_CHANGES[label]:
        wording = _draw_wording(rng, kind)
    intent = _draw_synonym(rng, kind.intents, question.intent, label)
    thing = _draw_synonym(rng, kind.things, question.thing, label)
    if label == "0" and rng.random() < 0.5:
        intent = _draw_other(rng, kind.intents, question.intent)
    elif label == "0":
        thing = _draw_other(rng, kind.things, question.thing)
    return Question(kind, wording, intent, thing)


def _draw_synonym(rng, concepts, named, label):
    """Returns the same concept, under another name as often as NAME_CHANGES says."""
    concept, name = named
    if rng.random() < NAME_CHANGES[label]:
        name = rng.choice([n for n in range(len(concepts[concept])) if n != name])
    return concept, name


def _draw_other(rng, concepts, named):
    """Returns another concept under any of its names."""
    concept = rng.choice([number for number in range(len(concepts)) if number != named[0]])
    return concept, rng.randrange(len(concepts[concept]))


def core(question):
    """Returns the sentence without its opening and ending, str."""
    (intent, intent_name), (thing, thing_name) = question.intent, question.thing
    kind, frame = question.kind, question.wording.frame
    return frame.format(T=kind.things[thing][thing_name], I=kind.intents[intent][intent_name])


def split_of(question):
    """Returns the split that the question's core belongs to; an eighth of them is dev's."""
    place = zlib.crc32(core(question).encode("utf-8")) % 8
    return {0: "dev", 1: "test"}.get(place, "train")


def render(question):
    """Returns the sentence, str."""
    return question.wording.opening + core(question) + question.wording.ending


if __name__ == "__main__":
    flags.DEFINE_string("output_dir", "data/sample", "Folder to write to.")
    app.run(main)
