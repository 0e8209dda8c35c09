"""Draw the pictures of the annotators' guideline: `python docs/draw_guideline.py`. It uses no outside images."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

OUT = Path(__file__).parent.parent / "annotation" / "examples"
SIZE = (720, 480)
SHOWN = (300, 200)


def street(*, car: int = 150, sun: int = 560, shift: int = 0, walker: int = 470) -> Image.Image:
    """A street with a house, a tree, a car and a person. `shift` moves near objects against far ones."""
    image = Image.new("RGB", SIZE, (150, 200, 235))
    draw = ImageDraw.Draw(image)
    draw.ellipse((sun, 30, sun + 70, 100), fill=(255, 225, 90))
    draw.polygon([(-40, 300), (180, 130), (360, 280), (520, 170), (800, 310)], fill=(120, 150, 120))
    draw.rectangle((0, 290, 720, 480), fill=(150, 160, 110))
    draw.rectangle((0, 360, 720, 450), fill=(95, 95, 100))
    for x in range(-20, 720, 90):
        draw.rectangle((x, 402, x + 45, 408), fill=(230, 230, 220))
    house = 250 + shift
    draw.rectangle((house, 170, house + 170, 340), fill=(205, 170, 130))
    draw.polygon([(house - 20, 170), (house + 85, 90), (house + 190, 170)], fill=(150, 65, 50))
    for x, y in ((20, 190), (105, 190), (20, 260)):
        draw.rectangle((house + x, y, house + x + 45, y + 40), fill=(90, 120, 160), outline=(250, 250, 250), width=4)
    draw.rectangle((house + 105, 265, house + 150, 340), fill=(95, 60, 40))
    tree = 590 + 2 * shift
    draw.rectangle((tree, 240, tree + 24, 350), fill=(100, 70, 45))
    draw.ellipse((tree - 60, 130, tree + 85, 265), fill=(60, 120, 55))
    draw.rounded_rectangle((car, 365, car + 150, 415), 14, fill=(190, 40, 40))
    draw.polygon([(car + 30, 367), (car + 52, 332), (car + 110, 332), (car + 132, 367)], fill=(170, 35, 35))
    draw.polygon([(car + 40, 364), (car + 57, 339), (car + 78, 339), (car + 78, 364)], fill=(190, 220, 235))
    for x in (22, 98):
        draw.ellipse((car + x, 398, car + x + 32, 430), fill=(30, 30, 30))
    draw.ellipse((walker, 300, walker + 22, 322), fill=(235, 195, 160))
    draw.rectangle((walker + 2, 322, walker + 20, 358), fill=(60, 70, 140))
    return image.filter(ImageFilter.GaussianBlur(0.7))


def beach() -> Image.Image:
    image = Image.new("RGB", SIZE, (140, 195, 240))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 200, 720, 330), fill=(40, 110, 170))
    draw.rectangle((0, 330, 720, 480), fill=(225, 205, 150))
    draw.polygon([(420, 190), (520, 60), (520, 190)], fill=(245, 245, 240))
    draw.polygon([(400, 195), (560, 195), (530, 225), (430, 225)], fill=(130, 70, 50))
    draw.pieslice((120, 280, 300, 420), 180, 360, fill=(220, 80, 70))
    draw.rectangle((206, 350, 213, 450), fill=(120, 90, 60))
    return image


def mug(dots: int) -> Image.Image:
    """A mug of a series: the same design with a different number of dots."""
    image = Image.new("RGB", SIZE, (225, 222, 215))
    draw = ImageDraw.Draw(image)
    draw.ellipse((420, 170, 560, 330), outline=(40, 90, 120), width=26)
    draw.rounded_rectangle((220, 110, 480, 400), 30, fill=(50, 110, 145))
    for i in range(dots):
        x, y = 265 + 75 * (i % 3), 170 + 80 * (i // 3)
        draw.ellipse((x, y, x + 40, y + 40), fill=(245, 200, 70))
    return image


def edits(scene: Image.Image) -> dict[str, Image.Image]:
    text = scene.copy()
    draw = ImageDraw.Draw(text)
    draw.rectangle((60, 30, 520, 110), fill=(20, 20, 20))
    draw.text((80, 38), "GREETINGS!", (255, 255, 255), ImageFont.load_default(60))
    pasted = beach()
    pasted.paste(scene.resize((360, 240)).rotate(6, expand=True, fillcolor=(140, 195, 240)), (180, 140))
    framed = ImageOps.expand(scene, 60, (20, 20, 20))
    return {
        "crop": scene.crop((180, 60, 620, 353)),
        "filter": ImageEnhance.Color(ImageEnhance.Contrast(scene).enhance(1.4)).enhance(0.1),
        "mirrored": ImageOps.mirror(scene),
        "text": text,
        "framed": framed,
        "pasted": pasted,
    }


def pair(name: str, query: Image.Image, reference: Image.Image) -> None:
    """Save query and reference side by side, as on the labelling page."""
    out = Image.new("RGB", (2 * SHOWN[0] + 10, SHOWN[1] + 20), (255, 255, 255))
    draw, font = ImageDraw.Draw(out), ImageFont.load_default(14)
    for x, title, image in ((0, "QUERY", query), (SHOWN[0] + 10, "REFERENCE", reference)):
        draw.text((x + 2, 1), title, (90, 90, 90), font)
        draw.rectangle((x, 20, x + SHOWN[0] - 1, 20 + SHOWN[1] - 1), fill=(235, 235, 235))
        fitted = ImageOps.contain(image, SHOWN)
        out.paste(fitted, (x + (SHOWN[0] - fitted.width) // 2, 20 + (SHOWN[1] - fitted.height) // 2))
    out.save(OUT / f"{name}.jpg", quality=82, optimize=True)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    scene = street()
    for name, image in edits(scene).items():
        pair(f"copy-{name}", image, scene)
    crop = scene.crop((180, 60, 620, 353))
    pair("hard-whole", scene, crop)
    pair("hard-two-crops", scene.crop((60, 120, 500, 413)), scene.crop((260, 60, 700, 353)))
    pair("hard-moment", street(car=330, walker=60, sun=500), scene)
    pair("hard-angle", street(shift=-45), scene)
    pair("hard-instance", mug(5), mug(6))
    pair("unrelated", beach(), scene)


if __name__ == "__main__":
    main()
