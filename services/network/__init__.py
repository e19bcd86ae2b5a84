"""Cities and pharmacies as dispatch must know them: areas, hours, prices, stock counts."""
