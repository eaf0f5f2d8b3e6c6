//! What a person is told when the window cannot open: miniquad panics then.

use std::panic::{self, PanicHookInfo};

/// Makes a panic one line of error by `fail`, until the window is open.
pub(crate) fn begin(fail: fn(&str) -> !) {
    panic::set_hook(Box::new(move |panic| fail(&reason(text(panic)))));
}

/// Lets panics be panics again: the window is open.
pub(crate) fn succeeded() {
    drop(panic::take_hook());
}

fn text<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = panic.payload();
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    let text = owned.or(payload.downcast_ref::<&str>().copied());
    text.unwrap_or("without a reason")
}

/// Returns the reason with a remedy, for the words of a panic.
fn reason(panic: &str) -> String {
    if !cfg!(target_os = "linux") {
        return format!("cannot open a window: {panic}");
    }
    if let Some((_, library)) = panic.split_once("DlOpenError(\"") {
        let library = library.split('"').next().unwrap_or(library);
        // Of the names that were tried, miniquad tells the last one: `libxkbcommon.so.0.0.0.0`.
        let version = library.find(".so.").map_or(library.len(), |at| at + 5);
        let library = library.get(..version).unwrap_or(library);
        return format!(
            "cannot open a window: there is no {library} on this machine; install libx11-6, libxi6, \
             libxkbcommon0 and libgl1, or what your system calls them"
        );
    }
    let detail = match panic.contains("unwrap()") {
        true => String::new(),
        false => format!(" ({panic})"),
    };
    format!(
        "cannot open a window with OpenGL{detail}: install libgl1 and the driver of your graphics \
         card; LIBGL_ALWAYS_SOFTWARE=1 draws without one"
    )
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named_and_other_panics_are_about_opengl() {
        for (library, named) in [
            ("libX11.so.6", "libX11.so.6"),
            ("libxkbcommon.so.0.0.0.0", "libxkbcommon.so.0"),
            ("x.so.", "x.so."),
        ] {
            let panic = format!("X11 backend failed: LibraryNotFound(DlOpenError(\"{library}\"))");
            let reason = reason(&panic);
            assert!(
                reason.contains(&format!("there is no {named} on")),
                "{reason}"
            );
        }
        assert!(reason("called `Option::unwrap()` on a `None` value").contains("OpenGL: install"));
        assert!(reason("surface creation failed").contains("(surface creation failed)"));
    }
}
