"""What the annotation tables say of each label's past: skipped pairs, withdrawn labels, the chain of generations."""
