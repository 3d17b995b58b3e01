"""The linear model that knows anatomy: bodies on one frame, uptake by place, years by place."""
