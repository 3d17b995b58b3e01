"""Where the networks look: atlas of mean heat maps, and checks that it matters.

The door is ``examine``. ``checks`` randomises layers and hides boxes, ``truth`` uses what only
a simulation knows, ``atlas`` lays many bodies on one.
"""
