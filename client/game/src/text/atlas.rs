//! The texture with the lines of text: rows of places, of which the least used ones are used again.
// The only unsafe call gives access to the GPU beside macroquad; see `Atlas::new`.
#![allow(unsafe_code)]

use macroquad::math::Rect;
use macroquad::miniquad::{FilterMode, TextureAccess, TextureParams, TextureSource};
use macroquad::texture::Texture2D;
use macroquad::window::get_internal_gl;

/// Width and height of the texture. There is room for twice what a crowd of names needs.
pub(super) const SIDE_PX: usize = 2048;
/// Number of rows for the largest size, of which there are few lines.
const LARGE_ROWS: usize = 2;

/// The texture, and what is where.
pub(super) struct Atlas {
    texture: Texture2D,
    shelves: Shelves,
}

/// The place of a line, as long as nothing else takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    row: usize,
    left: usize,
    width: usize,
    height: usize,
    serial: u64,
}

/// The division of the texture.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shelves {
    heights: [usize; 2],
    rows: Vec<Row>,
    serial: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    top: usize,
    height: usize,
    /// The parts from left to right, without gaps.
    spans: Vec<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    left: usize,
    width: usize,
    serial: u64,
    /// The frame that showed it last; 0 if nothing is there.
    last_used: u64,
}

impl Atlas {
    /// Creates the texture without any rows.
    pub(super) fn new() -> Self {
        let parameters = TextureParams {
            width: SIDE_PX as u32,
            height: SIDE_PX as u32,
            // Lines are shown pixel by pixel, so that neighbours do not shine through.
            min_filter: FilterMode::Nearest,
            mag_filter: FilterMode::Nearest,
            ..TextureParams::default()
        };
        // SAFETY: the reference must not live beside another one to macroquad's context. It ends
        // with this statement, on the window's one thread.
        let context = unsafe { get_internal_gl() }.quad_context;
        let texture = context.new_texture(TextureAccess::Static, TextureSource::Empty, parameters);
        Self {
            texture: Texture2D::from_miniquad_texture(texture),
            shelves: Shelves::default(),
        }
    }

    /// Makes rows of two heights; returns whether there were other ones before.
    pub(super) fn arrange(&mut self, large: usize, small: usize) -> bool {
        let changes = self.shelves.heights != [large, small];
        if changes {
            self.shelves = Shelves::new(large, small);
        }
        changes
    }

    /// Forgets all lines.
    pub(super) fn clear(&mut self) {
        self.shelves.clear();
    }

    /// Returns the texture.
    pub(super) fn texture(&self) -> &Texture2D {
        &self.texture
    }

    /// Returns the place's area in the texture.
    pub(super) fn area(&self, place: Place) -> Rect {
        let top = self.shelves.rows[place.row].top;
        let [x, y, width, height] =
            [place.left, top, place.width, place.height].map(|pixels| pixels as f32);
        Rect::new(x, y, width, height)
    }

    /// Whether a place still belongs to its line.
    pub(super) fn has(&mut self, place: Place) -> bool {
        self.shelves.find(place).is_some()
    }

    /// Notes that a frame shows a place; returns false if it belongs to another line now.
    pub(super) fn touch(&mut self, place: Place, frame: u64) -> bool {
        let span = self.shelves.find(place);
        span.map(|span| span.last_used = frame).is_some()
    }

    /// Takes a place for a line.
    pub(super) fn take(&mut self, width: usize, height: usize, frame: u64) -> Option<Place> {
        self.shelves.take(width, height, frame)
    }
}

impl Shelves {
    fn new(large: usize, small: usize) -> Self {
        let large_rows = [large; LARGE_ROWS];
        let small_rows = (SIDE_PX - LARGE_ROWS * large) / small;
        let mut top = 0;
        let row = |height| {
            let row = Row::new(top, height);
            top += height;
            row
        };
        Self {
            heights: [large, small],
            rows: large_rows
                .into_iter()
                .chain(vec![small; small_rows])
                .map(row)
                .collect(),
            serial: 0,
        }
    }

    fn clear(&mut self) {
        for row in &mut self.rows {
            *row = Row::new(row.top, row.height);
        }
    }

    fn find(&mut self, place: Place) -> Option<&mut Span> {
        let spans = &mut self.rows.get_mut(place.row)?.spans;
        let index = spans
            .binary_search_by_key(&place.left, |span| span.left)
            .ok()?;
        Some(&mut spans[index]).filter(|span| span.serial == place.serial)
    }

    /// Takes the place that has been out of use for longest. What this frame or the one before it
    /// showed is never taken: its turn to be drawn may still come, or its pixels may be waiting to
    /// be shown.
    fn take(&mut self, width: usize, height: usize, frame: u64) -> Option<Place> {
        let is_small = height <= self.heights[1];
        let rows = self.rows.iter().enumerate();
        let rows = rows.filter(|(_, row)| (row.height == self.heights[1]) == is_small);
        let found = rows.filter_map(|(index, row)| {
            let (last_used, span) = row.least_used(width)?;
            (last_used + 1 < frame).then_some((last_used, index, span))
        });
        let (_, row, span) = found.min()?;
        self.serial += 1;
        let left = self.rows[row].replace(span, width, self.serial, frame);
        Some(Place {
            row,
            left,
            width,
            height,
            serial: self.serial,
        })
    }
}

impl Row {
    fn new(top: usize, height: usize) -> Self {
        let all = Span {
            left: 0,
            width: SIDE_PX,
            serial: 0,
            last_used: 0,
        };
        Self {
            top,
            height,
            spans: vec![all],
        }
    }

    /// Finds neighbouring spans that together have a width and were out of use for longest. Returns
    /// the frame that used one of them last, and the index of the first.
    fn least_used(&self, width: usize) -> Option<(u64, usize)> {
        let starts = 0..self.spans.len();
        starts
            .filter_map(|first| {
                let mut room = 0;
                let mut last_used = 0;
                for span in &self.spans[first..] {
                    room += span.width;
                    last_used = last_used.max(span.last_used);
                    if room >= width {
                        return Some((last_used, first));
                    }
                }
                None
            })
            .min()
    }

    /// Puts a line in the place of the spans from `first` on; returns its left edge.
    fn replace(&mut self, first: usize, width: usize, serial: u64, last_used: u64) -> usize {
        let left = self.spans[first].left;
        let mut end = left;
        let mut count = 0;
        while end < left + width {
            end += self.spans[first + count].width;
            count += 1;
        }
        let taken = Span {
            left,
            width,
            serial,
            last_used,
        };
        let rest = Span {
            left: left + width,
            width: end - left - width,
            serial: 0,
            last_used: 0,
        };
        let spans = [taken, rest].into_iter().filter(|span| span.width > 0);
        self.spans.splice(first..first + count, spans);
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shelves: &Shelves) {
        for row in &shelves.rows {
            let mut end = 0;
            for span in &row.spans {
                assert_eq!(span.left, end);
                end += span.width;
            }
            assert_eq!(end, SIDE_PX);
        }
    }

    #[test]
    fn a_place_is_kept_while_it_is_shown_and_used_again_afterwards() {
        let mut shelves = Shelves::new(42, 28);
        let title = shelves.take(200, 42, 2).unwrap();
        assert!(title.row < LARGE_ROWS);
        let mut frame = 2;
        // Far more lines than there is room for, a few in each frame, beside one that stays.
        let kept = shelves.take(100, 28, frame).unwrap();
        for index in 0..5000 {
            frame += index % 2;
            shelves.find(kept).unwrap().last_used = frame;
            let width = 40 + index as usize * 7 % 300;
            assert!(shelves.take(width, 23, frame).is_some(), "{index}");
        }
        check(&shelves);
        assert!(shelves.find(kept).is_some() && shelves.find(title).is_some());
    }

    #[test]
    fn what_a_frame_shows_is_not_overwritten_in_it() {
        let mut shelves = Shelves::new(42, 28);
        let mut places = Vec::new();
        while let Some(place) = shelves.take(300, 28, 7) {
            places.push(place);
        }
        assert_eq!(places.len(), (SIDE_PX - 84) / 28 * (SIDE_PX / 300));
        assert!(places.iter().all(|&place| shelves.find(place).is_some()));
        // The frame after it may still show all of them.
        assert_eq!(shelves.take(300, 28, 8), None);
        let next = shelves.take(300, 28, 9).unwrap();
        assert!(shelves.find(next).is_some());
        let lost = places
            .iter()
            .filter(|&&place| shelves.find(place).is_none());
        assert_eq!(lost.count(), 1);
        check(&shelves);
    }

    #[test]
    fn neighbours_make_room_for_a_wider_line() {
        let mut shelves = Shelves::new(42, 28);
        while shelves.take(100, 28, 3).is_some() {}
        let wide = shelves.take(1950, 28, 5).unwrap();
        assert_eq!(shelves.find(wide).unwrap().width, 1950);
        check(&shelves);
    }
}
