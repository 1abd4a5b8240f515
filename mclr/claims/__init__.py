"""The paper's claims, asked of measured rows: a verdict, an effect and an interval for each."""
