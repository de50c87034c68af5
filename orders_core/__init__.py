"""The order core: the truth about orders, stock, shipments, money and after-sales. Imports nothing else of ours."""
