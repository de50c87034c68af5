"""The demo company: 山茶里 (Shanchali), tea and tableware, with two years of living history."""
