using System;
using System.Collections.Generic;
using System.Text;

namespace LogonEvidence
{
    /// <summary>Everything but a clear answer of the service. Each of these denies. The numbers are event ids, and
    /// are never used again for something else.</summary>
    public enum Failure
    {
        None = 0,
        SettingsInvalid = 3001,
        CertificateUnusable = 3002,
        QuestionInvalid = 3003,
        Busy = 3004,
        CircuitOpen = 3010,
        NoService = 3011,
        TlsRefused = 3012,
        WrongCertificate = 3013,
        Timeout = 3014,
        CallerRefused = 3020,
        Overloaded = 3021,
        WrongStatus = 3022,
        WrongContentType = 3023,
        AnswerTooLarge = 3030,
        AnswerTruncated = 3031,
        AnswerUnreadable = 3032,
        OtherRequestId = 3033,
        UnknownDecision = 3034,
        AnswerContradictory = 3035,
        InternalError = 3099,
    }

    /// <summary>A failure on its way to the answer.</summary>
    [Serializable]
    public sealed class FailedException : Exception
    {
        public readonly Failure Failure;

        public FailedException(Failure failure, string detail)
            : base(detail)
        {
            Failure = failure;
        }
    }

    /// <summary>The table of failures: what each means, and whether the next address is asked.</summary>
    public static class FailClosed
    {
        public sealed class Row
        {
            public readonly Failure Failure;
            public readonly string Code;
            public readonly bool NextService;
            public readonly string When;
            public readonly string Remedy;

            internal Row(Failure failure, string code, bool nextService, string when, string remedy)
            {
                Failure = failure;
                Code = code;
                NextService = nextService;
                When = when;
                Remedy = remedy;
            }
        }

        static readonly Row[] All =
        {
            new Row(Failure.SettingsInvalid, "settings_invalid", false,
                "The settings file is missing, cannot be read, or has a member that is wrong.",
                "Mend the member that the event names; the file is read again by itself."),
            new Row(Failure.CertificateUnusable, "certificate_unusable", false,
                "The client certificate is not there, has no private key that this account may use, or this machine's clock is outside its validity.",
                "Check the thumbprint, the rights on the private key, and the clock; enrol a new certificate before the old one ends."),
            new Row(Failure.QuestionInvalid, "question_invalid", false,
                "FAS passed no UPN or no list of evidence, or something that is longer than the contract takes.",
                "Check the mapping in EvidencePlugin.cs against the Readme of the SDK."),
            new Row(Failure.Busy, "busy", false,
                "MaxConcurrent questions are open already.",
                "See why the service is slow; raise MaxConcurrent if the load is real."),
            new Row(Failure.CircuitOpen, "circuit_open", true,
                "The address failed BreakerFailures times in a row and is left alone for BreakerSeconds.",
                "See the events before this one for the failure itself."),
            new Row(Failure.NoService, "no_service", true,
                "No connection: nobody listens, the name is not known, or the connection ended before an answer.",
                "Check that the service runs, its name, and the firewall."),
            new Row(Failure.TlsRefused, "tls_refused", true,
                "The TLS handshake failed: another version than 1.2 or 1.3, no common cipher, or the service refused the client certificate.",
                "See the service's log (handshake_refused); check that the client certificate is enrolled and valid."),
            new Row(Failure.WrongCertificate, "wrong_certificate", true,
                "The service's certificate is not one that is pinned, not of the CA, for another name, or not valid by this machine's clock.",
                "If the certificate was changed, add its SHA-256 as another ServerPin; otherwise find out who answers. Check the clock."),
            new Row(Failure.Timeout, "timeout", true,
                "No complete answer within AttemptMilliseconds of one address, or DeadlineMilliseconds of all.",
                "See the service's log for slow decisions, and the network between."),
            new Row(Failure.CallerRefused, "caller_refused", false,
                "Status 401 or 403: this plug-in is not enrolled, or was revoked.",
                "fas-evidence plugin list; enrol it."),
            new Row(Failure.Overloaded, "overloaded", true,
                "Status 429 or 503: the service turns questions away, or is draining.",
                "Add capacity, or an address."),
            new Row(Failure.WrongStatus, "wrong_status", false,
                "Any other status than 200, redirects included.",
                "Check the address; a proxy between is not supported."),
            new Row(Failure.WrongContentType, "wrong_content_type", false,
                "The answer is not application/json, or is encoded.",
                "Check the address; a proxy between is not supported."),
            new Row(Failure.AnswerTooLarge, "answer_too_large", false,
                "The answer is longer than 16384 bytes.",
                "Check the address."),
            new Row(Failure.AnswerTruncated, "answer_truncated", false,
                "The connection ended within the answer.",
                "See the service's log."),
            new Row(Failure.AnswerUnreadable, "answer_unreadable", false,
                "The body is not exactly one JSON object of the contract: not UTF-8, not JSON, a member that is missing, doubled, unknown or of another type, or anything after its end.",
                "Check that plug-in and service are of versions that fit."),
            new Row(Failure.OtherRequestId, "other_request_id", false,
                "The answer is to another question.",
                "Report it: this must not happen."),
            new Row(Failure.UnknownDecision, "unknown_decision", false,
                "The decision is neither \"allow\" nor \"deny\", letter by letter.",
                "Check that plug-in and service are of versions that fit."),
            new Row(Failure.AnswerContradictory, "answer_contradictory", false,
                "An allow without a record, or with a reason against it outside observe mode, or a deny with the reason \"ok\".",
                "Report it: this must not happen."),
            new Row(Failure.InternalError, "internal_error", false,
                "Anything else: any exception.",
                "Report it with the event's text."),
        };

        /// <summary>One row for each failure, in order of event ids.</summary>
        public static IList<Row> Rows { get { return Array.AsReadOnly(All); } }

        /// <summary>The stable code of a failure.</summary>
        public static string Code(Failure failure)
        {
            Row row = Find(failure);
            return row == null ? "internal_error" : row.Code;
        }

        /// <summary>Whether another address may be asked: only where no decision was made, never to hear a better one.</summary>
        internal static bool MayAskNext(Failure failure)
        {
            Row row = Find(failure);
            return row != null && row.NextService;
        }

        static Row Find(Failure failure)
        {
            foreach (Row row in All)
            {
                if (row.Failure == failure) return row;
            }
            return null;
        }

        /// <summary>The table as FailClosed.md.</summary>
        public static string ToMarkdown()
        {
            var text = new StringBuilder();
            text.Append("# What denies\n\n<!-- Generated from EvidencePlugin/FailClosed.cs: TestHost.exe table -->\n\n");
            text.Append("The plug-in allows on one thing only: status 200, `application/json`, exactly the members of the\n");
            text.Append("contract, its own `request_id`, and the decision `allow`. In observe mode the service answers `allow`\n");
            text.Append("where it would deny; its record has the reason. Everything else denies.\n\n");
            text.Append("\"Next address\" says whether another address of the settings is asked first: only where no decision was\n");
            text.Append("made, never to hear a better one.\n\n");
            text.Append("| event id | code | next address | when | what to do |\n|---|---|---|---|---|\n");
            text.Append("| 2000 | the service's reason code | no | The service decided to deny. | `fas-evidence explain DECISION_ID` |\n");
            foreach (Row row in All)
            {
                text.AppendFormat("| {0} | `{1}` | {2} | {3} | {4} |\n",
                    (int)row.Failure, row.Code, row.NextService ? "yes" : "no", row.When, row.Remedy);
            }
            return text.ToString();
        }
    }
}
