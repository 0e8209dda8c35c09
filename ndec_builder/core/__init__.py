"""What every stage uses: table schemas, workspace paths, settings, the shard runner, atomic storage, errors."""
