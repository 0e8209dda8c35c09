"""Everything that speaks to a Label Studio server: start it, create projects, sync tasks and labels."""
