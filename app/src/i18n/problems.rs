//! Problems in the reader's language.

use super::fill;
use contract::{
    account::Language,
    problem::{CONTENT_FILTER, GUARDRAIL_BLOCKED, INSUFFICIENT_QUOTA, Problem, ProblemKind},
};

crate::texts! {
    /// A sentence for each kind of problem and for the codes that people meet.
    struct ProblemTexts {
        unauthenticated: "Your session has ended. Sign in again to continue." | "Ihre Sitzung ist beendet. Melden Sie sich erneut an, um fortzufahren.",
        forbidden: "Your roles do not allow this." | "Ihre Rollen erlauben das nicht.",
        not_found: "This does not exist, or it has been deleted." | "Das gibt es nicht, oder es wurde gelöscht.",
        invalid: "Please check this entry." | "Bitte prüfen Sie diese Angabe.",
        conflict: "This has changed in the meantime. Reload the page and try again." | "Das hat sich inzwischen geändert. Laden Sie die Seite neu und versuchen Sie es noch einmal.",
        quota_exceeded: "A limit is reached. Try again later." | "Ein Limit ist erreicht. Versuchen Sie es später noch einmal.",
        quota_exceeded_in: "A limit is reached. Try again in {seconds} seconds." | "Ein Limit ist erreicht. Versuchen Sie es in {seconds} Sekunden noch einmal.",
        insufficient_quota: "The budget for this model is used up. Choose another model, or ask your administrator for more." | "Das Budget für dieses Modell ist aufgebraucht. Wählen Sie ein anderes Modell, oder bitten Sie Ihre Administration um mehr.",
        guardrail_blocked: "A rule of your organisation does not allow this content." | "Eine Regel Ihrer Organisation lässt diesen Inhalt nicht zu.",
        unavailable: "This is not available at the moment. Try again shortly." | "Das ist im Moment nicht verfügbar. Versuchen Sie es gleich noch einmal.",
        internal: "Something went wrong on our side. Try again; if it happens again, give your administrator the request id." | "Bei uns ist etwas schiefgegangen. Versuchen Sie es noch einmal; wenn es wieder passiert, nennen Sie Ihrer Administration die Vorgangsnummer.",
        offline: "The server cannot be reached. Check your connection and try again." | "Der Server ist nicht erreichbar. Prüfen Sie die Verbindung und versuchen Sie es noch einmal.",
        unreadable: "The server's answer could not be read. Reload the page and try again." | "Die Antwort des Servers war nicht lesbar. Laden Sie die Seite neu und versuchen Sie es noch einmal.",
        malformed: "The request could not be read. Reload the page and try again." | "Die Anfrage war nicht lesbar. Laden Sie die Seite neu und versuchen Sie es noch einmal.",
        wrong_credentials: "E-mail or password is not right." | "E-Mail-Adresse oder Passwort stimmt nicht.",
        wrong_password: "This is not your current password." | "Das ist nicht Ihr derzeitiges Passwort.",
        password_too_short: "The password needs at least 12 characters." | "Das Passwort braucht mindestens 12 Zeichen.",
        password_too_long: "This password is too long." | "Dieses Passwort ist zu lang.",
        password_common: "This password is easy to guess. Choose another one." | "Dieses Passwort ist leicht zu erraten. Wählen Sie ein anderes.",
        required: "Please fill in this field." | "Bitte füllen Sie dieses Feld aus.",
        too_long: "This text is too long." | "Dieser Text ist zu lang.",
        bad_range: "The period is not valid: check start and end." | "Der Zeitraum ist ungültig: Prüfen Sie Anfang und Ende.",
        bad_import: "This file is not an export of Kontor." | "Diese Datei ist kein Export aus Kontor.",
        import_newer: "This file comes from another version of Kontor and cannot be read." | "Diese Datei stammt aus einer anderen Version von Kontor und lässt sich nicht lesen.",
        import_too_much: "This file holds more chats or messages than can be imported at once." | "Diese Datei enthält mehr Chats oder Nachrichten, als sich auf einmal importieren lassen.",
        part_missing: "A part of this page could not be loaded. Perhaps the network is down, or a newer version is running; loading the page again helps." | "Ein Teil dieser Seite ließ sich nicht laden. Vielleicht fehlt das Netz, oder es läuft eine neuere Version; die Seite neu zu laden hilft.",
        out_of_range: "This value is outside of what is allowed." | "Dieser Wert liegt außerhalb des Erlaubten.",
        too_many: "These are too many at once." | "Das sind zu viele auf einmal.",
        messages_empty: "Write a message first." | "Schreiben Sie zuerst eine Nachricht.",
        nothing_to_continue: "There is nothing to continue here." | "Hier gibt es nichts fortzusetzen.",
        already_exists: "This exists already." | "Das gibt es schon.",
        model_unavailable: "The model is not ready at the moment. Try again in a few seconds." | "Das Modell ist im Moment nicht bereit. Versuchen Sie es in ein paar Sekunden noch einmal.",
        model_not_found: "This model is not available to you. Choose another one." | "Dieses Modell steht Ihnen nicht zur Verfügung. Wählen Sie ein anderes.",
        context_length_exceeded: "This chat is longer than the model can read. Start a new chat or shorten the message." | "Dieser Chat ist länger, als das Modell lesen kann. Beginnen Sie einen neuen Chat oder kürzen Sie die Nachricht.",
        content_filter: "A content filter of the model's provider does not allow this content. Choose another model, or put it differently." | "Ein Inhaltsfilter des Modellanbieters lässt diesen Inhalt nicht zu. Wählen Sie ein anderes Modell, oder formulieren Sie anders.",
        conversation_not_found: "This chat does not exist, or it has been deleted." | "Diesen Chat gibt es nicht, oder er wurde gelöscht.",
        attachment_too_large: "This attachment is too large." | "Dieser Anhang ist zu groß.",
        too_large: "This is too large to be sent. Shorten it, or split it." | "Das ist zu groß zum Senden. Kürzen Sie es, oder teilen Sie es auf.",
        bad_number: "This is not a number." | "Das ist keine Zahl.",
        turn_running: "An answer is still being written. Wait for it or stop it." | "Es wird noch eine Antwort geschrieben. Warten Sie darauf oder halten Sie sie an.",
    }
}

/// What to tell a person about a problem: the code's own sentence if there is one, else the kind's.
#[must_use]
pub fn problem_text(language: Language, problem: &Problem) -> String {
    let t = <ProblemTexts as super::Texts>::of(language);
    if problem.kind == ProblemKind::QuotaExceeded
        && let Some(seconds) = problem.retry_after
    {
        return fill(t.quota_exceeded_in, &[("seconds", &seconds.to_string())]);
    }
    by_code(t, &problem.code).unwrap_or_else(|| by_kind(t, problem.kind)).to_owned()
}

/// Codes are the services' stable reasons; see `domain::Error` for how they are made.
fn by_code(t: &'static ProblemTexts, code: &str) -> Option<&'static str> {
    Some(match code {
        "offline" => t.offline,
        "unreadable_answer" => t.unreadable,
        "malformed_request" => t.malformed,
        "wrong_credentials" => t.wrong_credentials,
        "wrong_password" => t.wrong_password,
        "password_too_short" => t.password_too_short,
        "password_too_long" => t.password_too_long,
        "password_common" => t.password_common,
        "required" | "name_required" => t.required,
        "too_long" => t.too_long,
        "bad_range" | "bad_date" => t.bad_range,
        "bad_json" | "bad_tree" => t.bad_import,
        "unknown_schema" => t.import_newer,
        "too_many_chats" | "too_many_messages" => t.import_too_much,
        "part_missing" => t.part_missing,
        "out_of_range" => t.out_of_range,
        "too_many" => t.too_many,
        "messages_empty" => t.messages_empty,
        "nothing_to_continue" | "answer_complete" => t.nothing_to_continue,
        "already_exists" => t.already_exists,
        "model_unavailable" | "worker_unavailable" => t.model_unavailable,
        "model_not_found" | "unknown_model" => t.model_not_found,
        "context_length_exceeded" => t.context_length_exceeded,
        "conversation_not_found" => t.conversation_not_found,
        "attachment_too_large" => t.attachment_too_large,
        "request_too_large" => t.too_large,
        "bad_number" => t.bad_number,
        INSUFFICIENT_QUOTA => t.insufficient_quota,
        GUARDRAIL_BLOCKED => t.guardrail_blocked,
        CONTENT_FILTER => t.content_filter,
        "turn_running" => t.turn_running,
        _ => return None,
    })
}

fn by_kind(t: &'static ProblemTexts, kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Unauthenticated => t.unauthenticated,
        ProblemKind::Forbidden => t.forbidden,
        ProblemKind::NotFound => t.not_found,
        ProblemKind::Invalid => t.invalid,
        ProblemKind::Conflict => t.conflict,
        ProblemKind::QuotaExceeded => t.quota_exceeded,
        ProblemKind::GuardrailBlocked => t.guardrail_blocked,
        ProblemKind::Unavailable => t.unavailable,
        ProblemKind::Internal => t.internal,
    }
}

#[cfg(test)]
mod tests {
    use super::problem_text;
    use contract::{
        account::Language,
        problem::{Problem, ProblemKind},
    };

    #[test]
    fn unknown_codes_fall_back_to_the_kind() {
        let problem = Problem::new(ProblemKind::NotFound, "gadget_not_found", "There is no such gadget.");
        assert_eq!(problem_text(Language::En, &problem), "This does not exist, or it has been deleted.");
        assert!(problem_text(Language::De, &problem).starts_with("Das gibt es nicht"));
    }

    #[test]
    fn a_limit_says_when_to_come_back() {
        let mut problem = Problem::new(ProblemKind::QuotaExceeded, "quota_exceeded", "");
        problem.retry_after = Some(30);
        assert!(problem_text(Language::En, &problem).contains("30 seconds"));
    }
}
