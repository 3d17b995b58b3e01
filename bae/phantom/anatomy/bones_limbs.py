"""Shoulder girdle, arm, hip bone and leg of the reference skeleton, left side."""

import numpy as np

from bae.phantom.anatomy.solids import Parts, disc, ellipsoid, sheet, tube


def shoulder() -> Parts:
    """Build clavicle and scapula."""
    medial = [(72, -96, 1408), (68, -104, 1352), (78, -106, 1274)]
    lateral = [(126, -40, 1416), (122, -62, 1365), (84, -104, 1268)]
    collar = [(26, 62, 1384), (60, 66, 1396), (105, 38, 1414), (150, 4, 1434)]
    ridge = [(72, -102, 1378), (110, -94, 1398), (156, -40, 1434)]
    return {
        "left clavicle": ("trunk", tube(collar, [9, 7, 7, 9]), 5.5),
        "left sternoclavicular": ("trunk", ellipsoid((25, 62, 1383), (11, 8, 10)), 14.0),
        "left acromion": ("trunk", ellipsoid((158, -12, 1436), (17, 17, 9)), 8.5),
        "left coracoid": ("trunk", ellipsoid((134, 26, 1412), (9, 14, 9)), 9.0),
        "left glenoid": ("trunk", ellipsoid((140, -16, 1402), (7, 14, 20)), 8.0),
        "left scapula": ("trunk", sheet(medial, lateral, 5.0), 6.0),
        "left scapula border": ("trunk", tube(medial, 4.5), 3.8),
        "left scapula side": ("trunk", tube(lateral, 6.0), 5.4),
        "left scapula spine": ("trunk", tube(ridge, [4, 6, 8]), 6.5),
    }


def arm() -> Parts:
    """Build the arm from the humeral head to every finger joint."""
    upper, lower, hand = "left arm", "left forearm", "left hand"
    shaft = [(172, -10, 1390), (184, -12, 1248), (195, -15, 1128)]
    ulna = [(188, -22, 1113), (190, -18, 988), (195, -8, 878)]
    radius = [(208, -10, 1098), (214, -8, 988), (212, -4, 878)]
    parts: Parts = {
        "left humeral head": (upper, ellipsoid((165, -10, 1406), (23, 23, 24)), 4.6),
        "left greater tubercle": (upper, ellipsoid((184, -6, 1398), (9, 14, 16)), 7.5),
        "left humerus": (upper, tube(shaft, [16, 11, 12], hollow=0.5), 5.0),
        "left elbow": (upper, ellipsoid((195, -15, 1118), (27, 12, 12)), 5.0),
        "left ulna": (lower, tube(ulna, [11, 7, 6]), 4.5),
        "left radius": (lower, tube(radius, [9, 7, 11]), 4.5),
        "left wrist": (hand, ellipsoid((205, -4, 856), (24, 9, 13)), 6.5),
        "left thumb base": (hand, ellipsoid((184, 4, 844), (8, 7, 7)), 10.0),
        "left thumb": (hand, tube([(182, 4, 840), (164, 16, 768)], [5, 4]), 5.0),
    }
    lengths = (96.0, 100.0, 94.0, 76.0)
    for finger, (x, length) in enumerate(
        zip((190.0, 202.0, 213.0, 223.0), lengths, strict=True), 2
    ):
        spread = (x - 206.0) * 0.3
        knuckle = np.array([x + spread, 4.0, 776.0])
        tip = np.array([x + 2.5 * spread, 0.0, 776.0 - length])
        bone = tube(np.array([[x, -2.0, 842.0], knuckle]), 4.5)
        parts[f"left metacarpal {finger}"] = (hand, bone, 5.0)
        parts[f"left finger {finger}"] = (hand, tube([knuckle, tip], [4.5, 3.0]), 4.5)
        for joint, share in (("a", 0.0), ("b", 0.46), ("c", 0.76)):
            spot = ellipsoid(knuckle + share * (tip - knuckle), (5.5, 5.5, 5))
            parts[f"left finger joint {finger}{joint}"] = (hand, spot, 6.0)
    return parts


def hip_bone() -> Parts:
    """Build the iliac wing, sacroiliac joint, socket, pubis and ischium."""
    crest = [(42, -84, 938), (62, -78, 985), (105, -38, 1012), (132, 18, 1000), (124, 66, 958)]
    brim = [(44, -70, 906), (60, -46, 912), (74, -12, 914), (88, 14, 916), (106, 44, 922)]
    inner = [(60, -42, 962), (59, -54, 930), (49, -68, 894)]
    outer = [(43, -80, 958), (41, -88, 928), (35, -92, 898)]
    cup, volume = ellipsoid((88, 0, 890), (29, 29, 29), hollow=0.80)
    kept = (cup[:, 2] > 885) | (cup[:, 0] < 84)
    upper = [(72, 20, 892), (42, 48, 880), (10, 56, 868)]
    under = [(9, 52, 855), (30, 22, 832), (54, -22, 818), (70, -26, 856)]
    return {
        "left ilium": ("trunk", sheet(crest, brim, 12.0), 5.8),
        "left iliac crest": ("trunk", tube(crest, [10, 8, 7, 6.5, 6]), 4.2),
        "left sacroiliac": ("trunk", sheet(inner, outer, 10.0), 9.0),
        "left acetabulum": ("trunk", (cup[kept], volume * float(kept.mean())), 7.0),
        "left hip roof": ("trunk", ellipsoid((94, 2, 920), (21, 16, 6)), 12.0),
        "left upper pubic ramus": ("trunk", tube(upper, [11, 8, 10]), 6.5),
        "left ischium": ("trunk", tube(under, [8, 8, 13, 14]), 6.0),
    }


def leg() -> Parts:
    """Build the leg from the femoral head to the toes."""
    thigh, lower, foot = "left thigh", "left leg", "left foot"
    femur = [(132, -8, 860), (122, 6, 700), (98, 4, 560), (86, 0, 512)]
    shin = [(84, 4, 456), (78, 8, 300), (80, 0, 78)]
    fibula = [(116, -18, 462), (114, -16, 300), (106, -10, 62)]
    parts: Parts = {
        "left femoral head": (thigh, ellipsoid((88, 0, 890), (22, 22, 22)), 4.5),
        "left femoral neck": (thigh, tube([(98, -2, 886), (132, -8, 864)], 15.0), 5.5),
        "left trochanter": (thigh, ellipsoid((142, -12, 878), (14, 17, 26)), 8.5),
        "left femur": (thigh, tube(femur, [17, 13.5, 15, 26], hollow=0.45), 7.2),
        "left patella": (lower, ellipsoid((84, 46, 506), (20, 9, 20)), 4.0),
        "left tibial plateau": (lower, disc((84, 0, 468), (36, 24, 11)), 3.6),
        "left tibia": (lower, tube(shin, [24, 14, 16], hollow=0.45), 5.4),
        "left fibula": (lower, tube(fibula, [9, 6, 8]), 4.0),
        "left ankle": (foot, ellipsoid((82, 2, 60), (24, 24, 16)), 2.4),
        "left heel": (foot, ellipsoid((84, -30, 32), (18, 32, 20)), 2.8),
        "left midfoot": (foot, ellipsoid((82, 46, 42), (28, 36, 14)), 3.2),
        "left big toe joint": (foot, ellipsoid((62, 138, 17), (10, 9, 9)), 6.5),
    }
    for place, sign in (("medial", -1.0), ("lateral", 1.0)):
        condyle = ellipsoid((84 + sign * 23, -4, 503), (19, 24, 17))
        parts[f"left {place} condyle"] = (thigh, condyle, 3.6)
        plate = disc((84 + sign * 24, -2, 483), (15, 20, 3.5))
        parts[f"left {place} knee"] = (lower, plate, 7.0)
    for toe, x in enumerate((62.0, 76.0, 87.0, 97.0, 106.0), 1):
        knuckle = (x, 142.0 - 6.0 * toe, 16.0)
        tip = (x + 2.0, 193.0 - 11.0 * toe, 10.0)
        bone = tube([(67.0 + 5.0 * toe, 66.0, 34.0), knuckle], 7.7 - 0.7 * toe)
        parts[f"left metatarsal {toe}"] = (foot, bone, 4.6)
        parts[f"left toe {toe}"] = (foot, tube([knuckle, tip], 5.0), 4.0)
    return parts
