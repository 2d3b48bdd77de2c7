"""What commands that ask models share: engines, recorded calls, budgets, concurrency."""
