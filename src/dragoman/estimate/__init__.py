"""What a run will take, before anything is rented: steps, hours, memory, bytes, sessions, price.

    memory      what fits on which GPU
    work        pairs become steps and tokens, by the arithmetic of training
    storage     checkpoints, their bytes in the store, and how far the store lags behind
    team        several ranks, and what they exchange
    speed       how long a step takes: a model, since no GPU was measured
    measure     how long it takes here: some real steps
    offers      what a platform makes of it: sessions, days, price, risk
    ranking     which of them to take, and why
    guide       the starting document's table, corrected
    refresh     newer prices, asked of the platforms themselves

No tensor is made here; what is measured is measured by `dragoman train` as a child process.
"""
