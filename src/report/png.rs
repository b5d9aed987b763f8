//! Rendering of an SVG as PNG.
//!
//! Its text is drawn with DejaVu Sans, which is part of the program: pictures are the same on
//! every machine. Letters that font lacks, such as Chinese ones, are drawn as boxes; the SVG beside
//! the PNG has them.

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

use crate::error::{Error, Result};

/// Pixels of the PNG for one of the SVG: sharp in print.
const ENLARGED: f32 = 2.0;

/// What draws pictures; it holds the font.
#[derive(Debug)]
pub struct Painter {
    options: Options<'static>,
}

impl Default for Painter {
    fn default() -> Self {
        Self::new()
    }
}

impl Painter {
    /// One painter serves any number of pictures.
    #[must_use]
    pub fn new() -> Self {
        let mut options = Options::default();
        let fonts = options.fontdb_mut();
        fonts.load_font_data(dejavu::sans::regular().to_vec());
        fonts.set_sans_serif_family("DejaVu Sans");
        "DejaVu Sans".clone_into(&mut options.font_family);
        Self { options }
    }

    /// The bytes of a PNG that shows `svg`.
    ///
    /// # Errors
    /// The text is no SVG, or the picture is empty or too large.
    pub fn png(&self, svg: &str) -> Result<Vec<u8>> {
        let tree = Tree::from_str(svg, &self.options)
            .map_err(|error| Error::internal(format!("drawing a figure: {error}")))?;
        let size = tree.size();
        let pixels = |length: f32| (length * ENLARGED).ceil() as u32;
        let mut picture = Pixmap::new(pixels(size.width()), pixels(size.height()))
            .ok_or_else(|| Error::internal("drawing a figure: it has no pixels, or too many"))?;
        resvg::render(&tree, Transform::from_scale(ENLARGED, ENLARGED), &mut picture.as_mut());
        picture.encode_png().map_err(|error| Error::internal(format!("drawing a figure: {error}")))
    }
}
