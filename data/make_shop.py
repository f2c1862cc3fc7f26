"""Write two small tables with Chinese columns and titles, a shop's orders and products, for docs/zh/quickstart.md.

    python data/make_shop.py

Customers buy from one topic for a while, then change it. Each has a favourite kind of product, such as 专业 (for
professionals), and buys it two times in three; otherwise, which product of the topic is random.
"""

from __future__ import annotations

import argparse
import datetime
import random
from pathlib import Path

import pandas as pd

TOPICS = {
    "跑步": ["女式跑步鞋", "男式跑步鞋", "运动水壶", "速干T恤", "运动手表", "压缩袜", "跑步腰包", "护膝"],
    "厨房": ["不锈钢炒锅", "陶瓷菜刀", "电饭煲", "榨汁机", "硅胶铲", "保鲜盒", "蒸笼", "砧板"],
    "露营": ["双人帐篷", "羽绒睡袋", "折叠桌", "露营灯", "防潮垫", "便携炉", "登山杖", "保温壶"],
    "书房": ["护眼台灯", "人体工学椅", "机械键盘", "钢笔", "笔记本", "书架", "显示器支架", "墨水"],
}
KINDS = ["轻便", "经典款", "升级版", "家用", "专业", "透气", "加厚", "入门级", "礼盒装", "新款"]
CUSTOMERS, KINDS_OF_A_PRODUCT = 300, 4
#: probabilities that a customer's topic changes, and that the product is of the favourite kind
CHANGE, FAVOURITE = 0.15, 0.67
OPENING = datetime.datetime(2026, 3, 1)


def products(draw: random.Random) -> pd.DataFrame:
    """Return the products: ``商品ID``, ``标题`` and ``类目``."""
    titles = [
        (kind + product, topic)
        for topic, names in TOPICS.items()
        for product in names
        for kind in draw.sample(KINDS, KINDS_OF_A_PRODUCT)
    ]
    rows = [(f"sku{number:03d}", title, topic) for number, (title, topic) in enumerate(titles, 1)]
    return pd.DataFrame(rows, columns=["商品ID", "标题", "类目"])


def orders(shelf: pd.DataFrame, draw: random.Random) -> pd.DataFrame:
    """Return the orders of all customers, shuffled: ``用户ID``, ``商品ID`` and ``时间``."""
    of_topic = {topic: list(zip(rows["商品ID"], rows["标题"], strict=True)) for topic, rows in shelf.groupby("类目")}
    rows = []
    for customer in range(1, CUSTOMERS + 1):
        time = OPENING + datetime.timedelta(hours=draw.randrange(2000))
        topic, kind = draw.choice(list(TOPICS)), draw.choice(KINDS)
        for _ in range(draw.randint(6, 14)):
            if draw.random() < CHANGE:
                topic = draw.choice(list(TOPICS))
            liked = [item for item, title in of_topic[topic] if title.startswith(kind)]
            if not liked or draw.random() >= FAVOURITE:
                liked = [item for item, _ in of_topic[topic]]
            rows.append((f"用户{customer}", draw.choice(liked), time.isoformat(sep=" ")))
            time += datetime.timedelta(hours=7)
    draw.shuffle(rows)
    return pd.DataFrame(rows, columns=["用户ID", "商品ID", "时间"])


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description="Write 订单.csv (orders) and 商品.csv (products).")
    parser.add_argument("--output", type=Path, default=Path("shop"), help="folder to write to")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(1)
    shelf = products(draw)
    shelf.to_csv(folder / "商品.csv", index=False)
    orders(shelf, draw).to_csv(folder / "订单.csv", index=False)
    print(f"written: {folder / '订单.csv'}, {folder / '商品.csv'}")


if __name__ == "__main__":
    main()
