"""Where the networks look: atlas of mean heat maps, and checks that it matters.

The door is ``examine``, which works for methods of one region a view and of several.
``checks`` randomises what was learned, ``hiding`` hides boxes, ``truth`` uses what only a
simulation knows; ``controls`` draws what the regions are compared with, ``measured`` makes rows
of it all. ``atlas`` lays many bodies on one, ``account`` says what each place weighs.
"""
