"""The linear model that knows anatomy: bodies on one frame, log uptake by place, years by place.

The door is ``reader``: ``fit`` learns a ``Reader`` from sheets, ``read`` reads the age from a scan
and says which regions it comes from. In the order in which a scan passes them: ``frame`` lays a
view down by its outline, ``template`` brings it onto the cohort's mean body, ``uptake`` makes
columns of it, ``linear`` years, ``choose`` squares, ``places`` their names.
"""
