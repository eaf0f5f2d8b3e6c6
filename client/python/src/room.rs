//! A room, as Python sees it.

use cubesync_client::ClientOptions;
use cubesync_client::protocol::{CubeId, Pose, Position, Rotation};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PySlice};

use crate::cube::{Cube, RECORD_BYTES, append_record};
use crate::player::Player;
use crate::report::{Ended, Error, Event, Place, Report, parts};
use crate::turns::Turns;

/// A room that this program joins, stays in, and comes back to after a lost connection.
///
/// A `with` block leaves it at its end. Any thread may use it. Once it is closed, everything but `close` raises
/// Error.
#[pyclass(module = "cubesync", frozen)]
pub(crate) struct Room {
    /// `None` once it is closed. Used only while detached from Python, and nothing is asked of Python meanwhile: two
    /// threads could wait for each other.
    player: Turns<Option<Player>>,
}

/// The id of a cube that was given as one, or by its id.
pub(crate) struct CubeArgument(CubeId);

impl FromPyObject<'_, '_> for CubeArgument {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if let Ok(cube) = given.cast::<Cube>() {
            return Ok(Self(CubeId(cube.get().id)));
        }
        let id = given.extract();
        let wrong = |_| PyTypeError::new_err("a cube is one of room.cubes, or its id");
        id.map(|id| Self(CubeId(id))).map_err(wrong)
    }
}

#[pymethods]
impl Room {
    /// Reads what has arrived, sends what is due, and returns what has happened, as objects.
    ///
    /// Call it once a frame; it never blocks. It raises Ended when the server will not have this client.
    fn poll<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let events = self.with(py, |player| {
            let events = player.poll()?;
            Ok(Event::all(events, player))
        })?;
        let events = events.map_err(Ended::new_err::<String>)?;
        events.iter().map(|event| event.to_python(py)).collect()
    }

    /// Every cube in sight, by rising id.
    #[getter]
    fn cubes(&self, py: Python<'_>) -> PyResult<Vec<Cube>> {
        self.with(py, |player| {
            let views = player.client().cubes(player.now());
            views.iter().map(Cube::from).collect()
        })
    }

    /// The own cube, while in the room.
    #[getter]
    fn own(&self, py: Python<'_>) -> PyResult<Option<Cube>> {
        self.with(py, |player| find(player, player.client().own_cube()))
    }

    /// The cube that this client holds.
    #[getter]
    fn held(&self, py: Python<'_>) -> PyResult<Option<Cube>> {
        self.with(py, |player| find(player, player.held()))
    }

    /// Writes every cube in sight as a record (DTYPE) into a buffer, by rising id, and returns how many they are.
    ///
    /// The buffer is a bytearray or another one of contiguous bytes, such as `array.view("u1")` of a numpy array of
    /// records. It raises ValueError if they do not fit.
    fn fill(&self, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let py = buffer.py();
        let records = self.with(py, |player| {
            let views = player.client().cubes(player.now());
            let mut records = Vec::with_capacity(RECORD_BYTES * views.len());
            views
                .iter()
                .for_each(|view| append_record(view, &mut records));
            records
        })?;
        let count = records.len() / RECORD_BYTES;
        let bytes = PyMemoryView::from(buffer)?.call_method1("cast", ("B",))?;
        if bytes.len()? < records.len() {
            return Err(PyValueError::new_err(format!(
                "the records of {count} cubes need {} bytes, and the buffer has {}",
                records.len(),
                bytes.len()?,
            )));
        }
        let place = PySlice::new(py, 0, records.len().try_into()?, 1);
        bytes.set_item(place, PyBytes::new(py, &records))?;
        Ok(count)
    }

    /// Moves the own cube, and a held one in front of it; or with `cube` the held one alone.
    ///
    /// One that was moved alone goes only where it is put from then on. A position outside the world becomes the
    /// nearest one inside it, and what is not a number raises ValueError. While there is no connection, and for a cube
    /// that is not yours, nothing moves.
    #[pyo3(name = "move", signature = (position, rotation = [0.0, 0.0, 0.0, 1.0], *, cube = None))]
    fn move_to(
        &self,
        py: Python<'_>,
        position: [f64; 3],
        rotation: [f64; 4],
        cube: Option<CubeArgument>,
    ) -> PyResult<()> {
        if !position
            .iter()
            .chain(&rotation)
            .all(|number| number.is_finite())
        {
            return Err(PyValueError::new_err(
                "a position and a rotation are finite numbers",
            ));
        }
        let pose = Pose {
            position: Position::from_metres(position.map(|metres| metres as f32)),
            rotation: Rotation::from_quaternion(rotation.map(|component| component as f32)),
        };
        self.with(py, |player| match cube {
            Some(CubeArgument(cube)) if player.client().own_cube() != Some(cube) => {
                player.move_held(cube, pose)
            }
            _ => player.move_own(pose),
        })
    }

    /// Returns the position and the rotation of a cube at the newest tick of the server.
    ///
    /// `cubes` shows it there a playout delay later, and smoothly. It is None for a cube that is not in sight.
    fn newest(&self, py: Python<'_>, cube: CubeArgument) -> PyResult<Option<Place>> {
        self.with(py, |player| player.client().server_pose(cube.0).map(parts))
    }

    /// Asks to hold a free cube; Taken or Refused answers.
    fn take(&self, py: Python<'_>, cube: CubeArgument) -> PyResult<()> {
        self.with(py, |player| player.take(cube.0))
    }

    /// Lets the held cube go. It flies on with the speed that it has, or stands in rooms without physics.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, Player::release)
    }

    /// How the connection is.
    #[getter]
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.with(py, |player| Report::of(player))?.to_python(py)
    }

    /// Leaves the room.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.end());
    }

    fn __enter__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        this.get().with(this.py(), |_| ())?;
        Ok(this.clone())
    }

    fn __exit__(&self, py: Python<'_>, _kind: Py<PyAny>, _error: Py<PyAny>, _trace: Py<PyAny>) {
        self.close(py);
    }
}

impl Room {
    /// Makes a room that starts to connect at its first poll.
    pub(crate) fn new(options: ClientOptions) -> Self {
        Self {
            player: Turns::new(Some(Player::new(options))),
        }
    }

    /// Calls a function with the player while Python's other threads run.
    ///
    /// # Errors
    /// The room is closed. A bug in the client closes it: nothing is known of its state then.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mut Player) -> T + Send,
    ) -> PyResult<T> {
        let called = py.detach(|| {
            let called = self.player.call(|player| player.as_mut().map(call));
            called.map_err(|_| self.end())
        });
        let words = match called {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => "the room is closed",
            Err(()) => "cubesync has a bug, which standard error shows; the room is closed",
        };
        Err(Error::new_err(words))
    }

    fn end(&self) {
        // There is nobody to tell of a panic here, and standard error has it.
        let _ = self.player.call(|player| drop(player.take()));
    }
}

fn find(player: &Player, cube: Option<CubeId>) -> Option<Cube> {
    cube.and_then(|cube| Cube::find(player, cube))
}
