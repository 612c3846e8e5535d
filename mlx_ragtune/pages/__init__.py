"""What people look at: tables, progress, the report, the blind A/B page."""
