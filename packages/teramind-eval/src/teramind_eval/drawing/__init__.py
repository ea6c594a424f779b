"""Pictures of places in a store with words, bars and boxes on them, from the pyramid level that fits."""
