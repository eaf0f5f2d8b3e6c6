//! The Python package `cubesync`: [`cubesync_client`] as a module of Python's.
//!
//! Nothing of the client is written here again. `player` is what one joined client needs and knows no Python, `room` is
//! its face in Python, which threads use in `turns`, and `join` makes one. `cube` and `report` make objects of what is to
//! be drawn, of events and of the status. What needs no Rust (the classes of events and errors, and
//! `python -m cubesync`) is Python, in `python/cubesync/`.

mod cube;
mod join;
mod player;
mod report;
mod room;
mod turns;

/// The native part, which `cubesync/__init__.py` imports.
#[pyo3::pymodule(name = "_cubesync")]
mod module {
    #[pymodule_export]
    use super::cube::Cube;
    #[pymodule_export]
    use super::join::join;
    #[pymodule_export]
    use super::room::Room;
}
