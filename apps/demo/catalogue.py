"""What the demo company sells, where, to whom and from whom. Plain data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Item:
    """A SKU of the demo: `weekly` base demand, `season` names a curve of demo/seasons.py, `born`/`dies` in days."""

    sku: str
    name: str
    name_en: str
    category: str
    price_yuan: float
    cost_yuan: float
    weekly: float
    season: str = "flat"
    weight_g: int = 300
    box: int = 0
    supplier: str = "FJT"
    spec: str = ""
    born: int = 0
    dies: int = 10_000
    lots: bool = False
    shelf_life_days: int | None = None
    made: bool = False


CATEGORIES = {
    "tea": ("茶叶", "Tea"),
    "ware": ("茶具", "Teaware"),
    "cup": ("杯壶", "Cups and pots"),
    "gift": ("礼盒", "Gift boxes"),
    "home": ("家居", "Home"),
    "pack": ("包装", "Packaging"),
}

ITEMS = [
    Item(
        "TGY-250",
        "安溪铁观音",
        "Tieguanyin oolong",
        "tea",
        128,
        52,
        26,
        "tea",
        280,
        24,
        "FJT",
        "清香 250 g",
        lots=True,
        shelf_life_days=540,
    ),
    Item(
        "TGY-500",
        "安溪铁观音 大罐",
        "Tieguanyin oolong, large",
        "tea",
        228,
        96,
        12,
        "tea",
        560,
        12,
        "FJT",
        "清香 500 g",
        lots=True,
        shelf_life_days=540,
    ),
    Item(
        "LJ-100", "西湖龙井 明前", "Longjing, first flush", "tea", 268, 120, 10, "spring", 130, 40, "HZT", "明前 100 g"
    ),
    Item(
        "LJ-250", "西湖龙井 雨前", "Longjing, second flush", "tea", 298, 140, 9, "spring", 280, 24, "HZT", "雨前 250 g"
    ),
    Item("BLC-125", "洞庭碧螺春", "Biluochun green tea", "tea", 188, 80, 7, "spring", 150, 40, "HZT", "特级 125 g"),
    Item("PE-357", "勐海普洱 熟茶饼", "Ripe pu'er cake", "tea", 158, 60, 14, "tea", 380, 28, "YNT", "2021 年 357 g"),
    Item("PE-S357", "易武普洱 生茶饼", "Raw pu'er cake", "tea", 238, 105, 6, "flat", 380, 28, "YNT", "2022 年 357 g"),
    Item("DHP-125", "武夷大红袍", "Da Hong Pao", "tea", 198, 88, 11, "tea", 150, 40, "FJT", "岩韵 125 g"),
    Item("BC-300", "福鼎白茶 寿眉", "Fuding white tea", "tea", 138, 50, 8, "flat", 330, 24, "FJT", "2020 年 300 g"),
    Item("MLH-200", "茉莉花茶", "Jasmine tea", "tea", 68, 24, 32, "summer", 220, 36, "FJT", "三窨 200 g"),
    Item("JH-80", "金丝皇菊", "Golden chrysanthemum", "tea", 49, 16, 22, "summer", 100, 48, "HZT", "80 g"),
    Item(
        "GJ-100", "九曲红梅", "Jiuqu red plum black tea", "tea", 118, 48, 5, "winter", 130, 40, "HZT", "100 g", born=260
    ),
    Item("CP-120", "陈皮普洱", "Tangerine pu'er", "tea", 98, 36, 16, "winter", 150, 30, "YNT", "小青柑 120 g"),
    Item("DCB-30", "冻干冷泡茶包", "Cold brew tea bags", "tea", 39, 12, 24, "summer", 60, 60, "FJT", "30 包", born=120),
    Item(
        "ZSH-MINI", "小种红茶 试饮装", "Lapsang sampler", "tea", 19.9, 6, 18, "flat", 40, 100, "FJT", "20 g", dies=520
    ),
    Item("GW-150", "白瓷盖碗", "White porcelain gaiwan", "ware", 88, 32, 15, "flat", 320, 12, "JDZ", "150 ml"),
    Item("GW-QH", "青花盖碗", "Blue-and-white gaiwan", "ware", 168, 66, 6, "gift", 330, 12, "JDZ", "手绘 150 ml"),
    Item("ZSH-180", "宜兴紫砂壶", "Yixing clay pot", "cup", 398, 170, 4, "gift", 420, 6, "YXG", "180 ml"),
    Item("ZSH-220", "宜兴紫砂壶 大品", "Yixing clay pot, large", "cup", 468, 200, 2.2, "gift", 480, 6, "YXG", "220 ml"),
    Item("BLH-400", "耐热玻璃壶", "Glass teapot", "cup", 99, 34, 13, "summer", 450, 12, "GZP", "400 ml"),
    Item(
        "BLB-2",
        "双层玻璃杯 两只",
        "Double-wall glasses, pair",
        "cup",
        69,
        22,
        19,
        "summer",
        380,
        12,
        "GZP",
        "250 ml × 2",
    ),
    Item("PMB-60", "品茗杯", "Tasting cup", "cup", 18, 5, 60, "flat", 60, 48, "JDZ", "60 ml"),
    Item("PMB-QH", "青花品茗杯", "Blue-and-white tasting cup", "cup", 32, 10, 28, "flat", 65, 48, "JDZ", "60 ml"),
    Item("GDB-250", "公道杯", "Fairness pitcher", "ware", 58, 18, 12, "flat", 240, 18, "GZP", "250 ml"),
    Item("CHJ-1", "竹制茶夹", "Bamboo tea tongs", "ware", 15, 4, 16, "flat", 30, 100, "AJZ", ""),
    Item("CP-T", "竹制茶盘", "Bamboo tea tray", "ware", 199, 78, 5, "gift", 1800, 4, "AJZ", "45 × 28 cm"),
    Item("CG-S", "锡茶罐 小", "Pewter caddy, small", "ware", 128, 50, 5, "gift", 300, 12, "YXG", "100 g"),
    Item("CG-T", "陶茶罐", "Clay caddy", "ware", 79, 26, 8, "flat", 450, 12, "YXG", "200 g"),
    Item("LW-1", "茶漏", "Strainer", "ware", 22, 6, 21, "flat", 50, 60, "GZP", ""),
    Item("CB-1", "茶布", "Tea towel", "ware", 16, 4, 20, "flat", 40, 100, "AJZ", "棉麻"),
    Item("YJ-6", "青釉碗 六只", "Celadon bowls, set of 6", "home", 168, 64, 7, "gift", 1900, 4, "JDZ", ""),
    Item("PZ-8", "骨瓷平盘 8 寸", "Bone china plate, 8 in", "home", 45, 15, 26, "gift", 400, 24, "JDZ", ""),
    Item("PZ-10", "骨瓷平盘 10 寸", "Bone china plate, 10 in", "home", 59, 20, 14, "gift", 560, 24, "JDZ", ""),
    Item("HP-1", "手作花瓶", "Handmade vase", "home", 138, 50, 4, "gift", 900, 6, "JDZ", "", made=True),
    Item("XL-1", "线香", "Incense sticks", "home", 36, 10, 17, "winter", 80, 60, "AJZ", "沉香 50 支"),
    Item("XT-1", "陶香插", "Incense holder", "home", 42, 13, 7, "winter", 160, 30, "JDZ", ""),
    Item("ZD-1", "棉麻桌旗", "Table runner", "home", 88, 30, 5, "gift", 220, 20, "AJZ", "180 cm"),
    Item("LT-1", "藤编提篮", "Rattan basket", "home", 96, 34, 3.5, "flat", 700, 8, "AJZ", "", born=200),
    Item("KD-1", "快客杯", "Travel tea set", "ware", 79, 28, 17, "summer", 380, 18, "GZP", "一壶二杯"),
    Item("KD-2", "快客杯 青瓷", "Travel tea set, celadon", "ware", 119, 44, 9, "flat", 400, 18, "JDZ", "", born=330),
    Item("BWB-500", "保温杯", "Vacuum flask", "cup", 129, 52, 18, "winter", 360, 12, "GZP", "500 ml"),
    Item(
        "BWB-350", "保温杯 小", "Vacuum flask, small", "cup", 109, 43, 10, "winter", 280, 12, "GZP", "350 ml", dies=600
    ),
    Item("MKB-1", "马克杯", "Mug", "cup", 39, 12, 24, "flat", 340, 24, "JDZ", "330 ml"),
    Item("NB-XC", "新春限定马克杯", "New Year mug", "cup", 49, 15, 9, "newyear", 340, 24, "JDZ", ""),
    Item("YB-H", "中秋礼盒空盒", "Mid-autumn box", "pack", 28, 9, 8, "moon", 250, 20, "AJZ", ""),
    Item("LH-H", "红色礼盒空盒", "Red gift box", "pack", 26, 8, 14, "newyear", 250, 20, "AJZ", ""),
    Item("ZD-S", "手提纸袋", "Paper bag", "pack", 3.5, 0.9, 120, "gift", 40, 200, "AJZ", ""),
    Item("CX-1", "茶样小样", "Tea sample", "tea", 5, 1.2, 6, "flat", 10, 200, "FJT", "赠品"),
    Item("PE-BX", "普洱便携罐", "Pocket pu'er", "tea", 58, 20, 13, "tea", 90, 60, "YNT", "8 粒", born=420),
    Item("NM-100", "糯米香普洱", "Sticky-rice pu'er", "tea", 45, 15, 9, "winter", 120, 60, "YNT", "100 g", dies=450),
]

KITS = {
    "SET-XS": ("新手茶具套装", "Starter tea set", 199.0, {"GW-150": 1, "PMB-60": 4, "GDB-250": 1}, 7.0, "gift"),
    "SET-LJ": ("龙井品鉴礼盒", "Longjing gift box", 399.0, {"LJ-100": 1, "BLB-2": 1, "LH-H": 1}, 4.0, "newyear"),
    "SET-TGY": ("铁观音伴手礼", "Tieguanyin gift set", 288.0, {"TGY-250": 2, "LH-H": 1, "ZD-S": 1}, 5.0, "newyear"),
    "SET-ZQ": ("中秋茶礼", "Mid-autumn tea gift", 328.0, {"DHP-125": 1, "TGY-250": 1, "YB-H": 1}, 4.0, "moon"),
}

LOCATIONS = [
    ("SZ", "苏州仓", "Suzhou warehouse", "warehouse", "江苏", 31.30, 120.58, True),
    ("GZ", "广州仓", "Guangzhou warehouse", "warehouse", "广东", 23.13, 113.26, False),
    ("CD", "成都仓", "Chengdu warehouse", "warehouse", "四川", 30.57, 104.07, False),
    ("SH1", "上海安福路店", "Shanghai Anfu Road store", "store", "上海", 31.21, 121.44, False),
]
SHARE = {"SZ": 0.5, "GZ": 0.27, "CD": 0.18, "SH1": 0.05}
"""How opening stock and purchases are spread over the locations."""

SUPPLIERS = [
    ("FJT", "福建安溪茶业", "Fujian Tea", 12, 3.0, 50_000, "orders@fjtea.example"),
    ("HZT", "杭州茶厂", "Hangzhou Tea Works", 9, 2.0, 40_000, "sales@hztea.example"),
    ("YNT", "云南勐海茶厂", "Menghai Tea Factory", 18, 5.0, 60_000, "export@mhtea.example"),
    ("JDZ", "景德镇陶瓷", "Jingdezhen Ceramics", 25, 7.0, 80_000, "kiln@jdz.example"),
    ("YXG", "宜兴紫砂工坊", "Yixing Workshop", 35, 9.0, 50_000, "pots@yixing.example"),
    ("GZP", "广州玻璃制品", "Guangzhou Glass", 14, 4.0, 40_000, "glass@gzp.example"),
    ("AJZ", "安吉竹木", "Anji Bamboo", 10, 3.0, 20_000, "bamboo@anji.example"),
]

CHANNELS = [
    ("web", "官网商城", "Web shop", "web", 0.42),
    ("tmall", "天猫旗舰店", "Tmall store", "marketplace", 0.26),
    ("phone", "电话订货", "Phone", "phone", 0.14),
    ("store", "门店", "Store", "store", 0.10),
    ("api", "经销商接口", "Dealer API", "api", 0.08),
]

CITIES = [
    ("上海", "上海", 31.23, 121.47, 16),
    ("浙江", "杭州", 30.27, 120.15, 10),
    ("江苏", "南京", 32.06, 118.80, 10),
    ("江苏", "苏州", 31.30, 120.58, 8),
    ("广东", "广州", 23.13, 113.26, 9),
    ("广东", "深圳", 22.54, 114.06, 11),
    ("四川", "成都", 30.57, 104.07, 8),
    ("重庆", "重庆", 29.56, 106.55, 5),
    ("北京", "北京", 39.90, 116.40, 10),
    ("湖北", "武汉", 30.59, 114.31, 5),
    ("陕西", "西安", 34.34, 108.94, 4),
    ("福建", "厦门", 24.48, 118.09, 4),
]

SURNAMES = "林陈黄李王张刘周吴徐孙马朱胡郭何高罗郑梁"
SHOPS_ZH = ["茶行", "贸易", "茶馆", "生活馆", "商行", "茶业", "百货", "礼品", "文化", "酒店用品"]
PEOPLE_EN = [
    "Anna Miller", "James Carter", "Sofia Rossi", "Liam O'Brien", "Emma Schmidt", "Noah Dubois", "Mia Jansen",
    "Lucas Novak", "Olivia Brown", "Ethan Clark", "Grace Lee", "Oliver Smith", "Chloe Martin", "Jack Wilson",
    "Ella Nielsen", "Henry Walker",
]  # fmt: skip

# 春节 (first day of the lunar year) and 中秋, by year: from the almanac, used by the season curves.
NEW_YEAR = {2024: date(2024, 2, 10), 2025: date(2025, 1, 29), 2026: date(2026, 2, 17), 2027: date(2027, 2, 6)}
MID_AUTUMN = {2024: date(2024, 9, 17), 2025: date(2025, 10, 6), 2026: date(2026, 9, 25), 2027: date(2027, 9, 15)}

STAFF = [
    ("mei", "梅经理", ["manager"], "mei@shanchali.example", "zh"),
    ("ann", "安小雅", ["clerk"], "ann@shanchali.example", "zh"),
    ("bob", "Bob Hart", ["clerk"], "bob@shanchali.example", "en"),
    ("sam", "沈业务", ["sales"], "sam@shanchali.example", "zh"),
    ("wei", "魏师傅", ["warehouse"], "wei@shanchali.example", "zh"),
    ("pia", "潘计划", ["planner"], "pia@shanchali.example", "zh"),
    ("kai", "凯会计", ["cashier"], "kai@shanchali.example", "zh"),
    ("mia", "米市场", ["marketing"], "mia@shanchali.example", "zh"),
]
