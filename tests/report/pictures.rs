//! Is a PNG the picture that the SVG is?

use factorexe::report::Painter;
use factorexe::report::plot::{Point, Scale, Style, svg};
use resvg::tiny_skia::Pixmap;

use super::figures::figure;

fn drawn(title: &str) -> Pixmap {
    let mut figure = figure(&Scale::Linear, Style::Markers, vec![Point::new(1.0, 1.0)]);
    title.clone_into(&mut figure.title);
    Pixmap::decode_png(&Painter::new().png(&svg(&figure)).unwrap()).unwrap()
}

fn dark_pixels(picture: &Pixmap, rows: std::ops::Range<u32>) -> usize {
    let dark = |&(x, y): &(u32, u32)| picture.pixel(x, y).unwrap().red() < 100;
    let places = rows.flat_map(|y| (0..picture.width()).map(move |x| (x, y)));
    places.filter(dark).count()
}

#[test]
fn a_png_is_twice_as_large_and_not_blank() {
    let picture = drawn("Title");
    assert_eq!(picture.width(), 2 * 760);
    // The mark has the blue of the first series, #0072b2.
    let blue = |pixel: &&resvg::tiny_skia::PremultipliedColorU8| {
        (pixel.red(), pixel.green(), pixel.blue()) == (0, 0x72, 0xb2)
    };
    assert!(picture.pixels().iter().filter(blue).count() > 100);
}

#[test]
fn text_is_drawn() {
    // The title is alone in the first 36 lines of pixels of the SVG.
    assert_eq!(dark_pixels(&drawn(""), 0..72), 0);
    let (short, long) = (drawn("Title"), drawn("Title Title αβ → ≤"));
    assert!(dark_pixels(&short, 0..72) > 100);
    assert!(dark_pixels(&long, 0..72) > dark_pixels(&short, 0..72));
}

#[test]
fn what_is_no_svg_is_an_error() {
    assert!(Painter::new().png("<svg").is_err());
}
