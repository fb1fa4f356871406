//! Words of the search page.

crate::texts! {
    /// Words of the search page.
    pub struct SearchTexts {
        title: "Search" | "Suche",
        lead: "All your questions and answers, by their words." | "Alle Ihre Fragen und Antworten, nach ihren Wörtern.",
        words: "Search words" | "Suchwörter",
        submit: "Search" | "Suchen",
        nothing_title: "Nothing found" | "Nichts gefunden",
        nothing_text: "No message holds all these words. Try fewer or other words." | "Keine Nachricht enthält alle diese Wörter. Versuchen Sie weniger oder andere Wörter.",
        start_title: "Search your chats" | "Chats durchsuchen",
        start_text: "Type a few words; quotation marks hold them together, a minus leaves one out." | "Geben Sie einige Wörter ein; Anführungszeichen halten sie zusammen, ein Minus schließt eines aus.",
        question: "Question" | "Frage",
        answer: "Answer" | "Antwort",
        results: "Results" | "Ergebnisse",
        more: "Show more" | "Mehr anzeigen",
        untitled: "Untitled" | "Ohne Titel",
    }
}
