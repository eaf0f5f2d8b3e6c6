//! `/time.html`: the server's local time, the first page that the project had.

use axum::response::Response;
use jiff::Zoned;

/// Responds with the time of the request. The environment variable `TZ` sets the zone.
pub(super) async fn page() -> Response {
    super::html(render(&Zoned::now()))
}

/// Renders the page. Its empty icon keeps browsers from requesting one.
fn render(now: &Zoned) -> String {
    let time = now.strftime("%H:%M:%S %d.%m.%Y");
    format!(
        "<!DOCTYPE html>\n\
         <html lang=\"ru\">\n\
         <head><meta charset=\"utf-8\"><link rel=\"icon\" href=\"data:,\"><title>Время</title></head>\n\
         <body><h1>{time}</h1></body>\n\
         </html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heading_is_time_and_date_with_leading_zeros() {
        let now: Zoned = "2026-03-04T05:06:07+03:00[Europe/Moscow]"
            .parse()
            .unwrap_or_else(|_| {
                // A machine without zone data knows fixed offsets.
                "2026-03-04T05:06:07+03:00[+03:00]".parse().unwrap()
            });
        let page = render(&now);
        assert!(page.contains("<title>Время</title>"));
        assert!(page.contains("<h1>05:06:07 04.03.2026</h1>"), "{page}");
    }
}
