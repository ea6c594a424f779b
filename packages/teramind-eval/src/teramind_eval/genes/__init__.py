"""Statistics of genes: how much each is expressed, by section and region."""
