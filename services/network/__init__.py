"""Cities and pharmacies as dispatch must know them: areas, hours, abilities, prices, stock counts."""
